#!/bin/bash
export NCCL_DEBUG=INFO
GPUS_PER_NODE=8
NNODES=2
MASTER_ADDR=node-0
MASTER_PORT=29500
DISTRIBUTED_ARGS="--nproc_per_node $GPUS_PER_NODE --nnodes $NNODES --node_rank 0 --master_addr $MASTER_ADDR --master_port $MASTER_PORT"

torchrun $DISTRIBUTED_ARGS train_hf.py \
    --output_dir out \
    --per_device_train_batch_size 1 \
    --gradient_accumulation_steps 16 \
    --gradient_checkpointing True \
    --bf16 True
