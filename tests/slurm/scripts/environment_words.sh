#!/bin/bash
#SBATCH --nodes=1 --gres=gpu:8
export WANDB_MODE=offline NCCL_P2P_DISABLE=0
CUDA_VISIBLE_DEVICES=0,1,2,3 PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True accelerate launch --num_processes 4 train.py --half a &
CUDA_VISIBLE_DEVICES=4,5,6,7 accelerate launch --num_processes 4 --main_process_port 29501 train.py --half b &
wait
