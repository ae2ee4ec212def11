#!/bin/bash
#SBATCH --nodes=1 --gres=gpu:8
export OMP_NUM_THREADS=8
preflight run --device h100-sxm-80 -- accelerate launch --config_file fsdp.yaml --num_processes 8 train.py --lr 1e-5
