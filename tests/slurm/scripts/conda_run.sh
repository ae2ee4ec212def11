#!/bin/bash
#SBATCH --nodes=1 --gres=gpu:8
conda run -n train --no-capture-output torchrun --nproc_per_node=8 train.py --epochs 3
