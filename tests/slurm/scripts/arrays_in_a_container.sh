#!/bin/bash
#SBATCH --nodes=2 --gres=gpu:8 --ntasks-per-node=1
IMAGE=${IMAGE:-$PWD/pytorch.sqsh}
declare -a ARGS=(
  --container-image $IMAGE
  --container-mounts $PWD:/workspace,/fsx:/fsx
  --no-container-mount-home
)
srun -l "${ARGS[@]}" torchrun --nproc_per_node=8 --nnodes=$SLURM_NNODES --rdzv_backend=c10d \
  --rdzv_endpoint=$(scontrol show hostnames $SLURM_JOB_NODELIST | head -n 1):29400 train.py --bf16 true
