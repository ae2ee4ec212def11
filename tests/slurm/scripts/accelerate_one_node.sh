#!/bin/bash
#SBATCH --job-name=multigpu
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --gres=gpu:4
export GPUS_PER_NODE=4
export SCRIPT=train.py
export SCRIPT_ARGS=" \
    --mixed_precision fp16 \
    --output_dir out \
    --with_tracking \
    "
accelerate launch --num_processes $GPUS_PER_NODE $SCRIPT $SCRIPT_ARGS
