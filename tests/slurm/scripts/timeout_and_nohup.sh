#!/bin/bash
#SBATCH --nodes=1 --gres=gpu:8
nohup timeout 55m env TOKENIZERS_PARALLELISM=false torchrun --nproc_per_node=8 train.py > out.log 2>&1
