#!/bin/bash
#SBATCH --nodes=1 --gres=gpu:8
ARGS=$(grep -v '^#' args.txt | tr '\n' ' ')
torchrun --nproc_per_node=8 train.py $ARGS
