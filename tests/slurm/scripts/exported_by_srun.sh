#!/bin/bash
#SBATCH --nodes=1 --ntasks=1 --gres=gpu:8
srun --export=ALL,BATCH=4 bash -c 'torchrun --nproc_per_node=8 train.py --batch $BATCH'
