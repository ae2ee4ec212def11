#!/bin/bash
#SBATCH --job-name=fsdp
#SBATCH --nodes=2 --ntasks-per-node=1 --gres=gpu:8
export GPUS_PER_NODE=8
head_node_ip=$(scontrol show hostnames $SLURM_JOB_NODELIST | head -n 1)
export ACCELERATE_DIR="${ACCELERATE_DIR:-.}"
export LAUNCHER="accelerate launch \
    --config_file ${ACCELERATE_DIR}/fsdp.yaml \
    --num_processes $((SLURM_NNODES * GPUS_PER_NODE)) \
    --num_machines $SLURM_NNODES \
    --rdzv_backend c10d \
    --main_process_ip $head_node_ip \
    --main_process_port 29500 "
export SCRIPT="${ACCELERATE_DIR}/train.py"
export SCRIPT_ARGS=" --mixed_precision fp16 --output_dir out "
srun $LAUNCHER $SCRIPT $SCRIPT_ARGS
