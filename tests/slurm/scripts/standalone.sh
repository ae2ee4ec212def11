#!/bin/bash
#SBATCH --nodes=1 --gres=gpu:8
torchrun --standalone --nnodes=1 --nproc-per-node=gpu train.py --config config/train_gpt2.py > train.log 2>&1
