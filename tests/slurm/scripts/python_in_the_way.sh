#!/bin/bash
#SBATCH --nodes=1 --gres=gpu:8
NPROC=$(python -c "print(2 * 4)")
torchrun --nproc_per_node=$NPROC train.py
