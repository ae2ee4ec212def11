#!/bin/bash
#SBATCH --nodes=1 --gres=gpu:8
python prepare.py --out data && \
torchrun --nproc_per_node=8 train.py --data data
rm -rf data/tmp
