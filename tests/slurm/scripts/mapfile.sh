#!/bin/bash
#SBATCH --nodes=2 --ntasks-per-node=1 --gres=gpu:8
mapfile -t HOSTS < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
mapfile -t EXTRA < args.txt
srun torchrun --nnodes ${#HOSTS[@]} --nproc_per_node 8 --rdzv_endpoint "${HOSTS[0]}:29500" train.py "${EXTRA[@]:1}"
