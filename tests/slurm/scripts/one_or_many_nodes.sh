#!/bin/bash
#SBATCH --nodes=2 --ntasks-per-node=1 --gres=gpu:8
if [ "$SLURM_NNODES" -gt 1 ]; then
  RDZV="--rdzv_backend=c10d --rdzv_endpoint=$(scontrol show hostnames $SLURM_JOB_NODELIST | head -n 1):29500"
else
  RDZV="--standalone"
fi
srun torchrun --nnodes=$SLURM_NNODES --nproc_per_node=8 $RDZV train.py
