#!/bin/bash
#SBATCH --nodes=2 --ntasks-per-node=1 --gpus-per-node=8
set -euo pipefail
MASTER=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
MASTER_IP=$(getent ahostsv4 "$MASTER" | awk 'NR==1{print $1}')
srun torchrun --nnodes="$SLURM_NNODES" --nproc_per_node=8 --rdzv_backend=c10d \
  --rdzv_endpoint="$MASTER_IP:29500" "$SLURM_SUBMIT_DIR/train.py" --enable_expert_parallel --ep 8
