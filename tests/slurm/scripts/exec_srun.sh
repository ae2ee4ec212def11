#!/bin/bash
#SBATCH --nodes=1 --ntasks=1 --gpus-per-node=8
exec > >(tee -a job.log) 2>&1
ulimit -n 65535
trap 'echo bye' EXIT
exec srun accelerate launch --num_processes 8 --mixed_precision bf16 train.py
