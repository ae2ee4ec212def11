#!/bin/bash
#SBATCH --nodes=2 --ntasks-per-node=1 --gres=gpu:8
NODES=$(scontrol show hostnames $SLURM_JOB_NODELIST)
NNODES=$(echo "$NODES" | wc -l)
GPUS=$(nvidia-smi -L | wc -l)
WORLD=$((NNODES * GPUS))
HEAD=$(echo "$NODES" | head -1)
srun torchrun --nnodes=$NNODES --nproc_per_node=$GPUS --rdzv_endpoint=$HEAD:29500 --rdzv_backend=c10d train.py --global_batch_size $((WORLD * 4))
