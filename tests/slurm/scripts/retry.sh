#!/bin/bash
#SBATCH --nodes=1 --gres=gpu:8
for attempt in 1 2 3; do
  srun torchrun --nproc_per_node=8 train.py --resume latest && break
  sleep 1
done
