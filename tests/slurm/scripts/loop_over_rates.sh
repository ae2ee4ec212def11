#!/bin/bash
#SBATCH --nodes=1 --gres=gpu:8
for lr in 1e-5 3e-5; do
  for seed in {1,2}; do
    srun -n1 torchrun --nproc_per_node=8 train.py --lr $lr --seed $seed --out runs/${lr}_$seed
  done
done
