#!/bin/bash
#SBATCH --job-name=swift-lora
#SBATCH --nodes=1
#SBATCH --gres=gpu:4
export NPROC_PER_NODE=4
export CUDA_VISIBLE_DEVICES=0,1,2,3
MODEL=Qwen/Qwen2.5-7B-Instruct
swift sft \
    --model $MODEL \
    --dataset rows.jsonl \
    --tuner_type lora \
    --torch_dtype bfloat16 \
    --max_length 2048 \
    --per_device_train_batch_size 1 \
    --output_dir out
