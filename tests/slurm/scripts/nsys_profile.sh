#!/bin/bash
#SBATCH --nodes=1 --gres=gpu:8
srun nsys profile -t cuda,nvtx -o prof_%q{SLURM_PROCID} --force-overwrite true torchrun --nproc_per_node=8 train.py --steps 20
