#!/bin/bash
#SBATCH --nodes=1 --gres=gpu:8
srun --cpu-bind=none numactl --interleave=all torchrun --nproc_per_node=8 train.py --bind
