#!/bin/bash
#SBATCH --job-name=axolotl-slurm-multinode
#SBATCH --ntasks-per-node=1
#SBATCH --nodes=2
#SBATCH --gres=gpu:8
export NUM_NODES=2
export NUM_TRAINERS=8
PRIMARY_ADDR=$(scontrol show hostnames $SLURM_JOB_NODELIST | head -n 1)
export HF_HOME=/tmp/hf
srun axolotl train train.yaml --launcher torchrun -- \
  --nproc_per_node=$NUM_TRAINERS --nnodes=$NUM_NODES \
  --rdzv_id axolotl-cli --rdzv_backend c10d --rdzv_endpoint "${PRIMARY_ADDR}:29400" --rdzv-conf="join_timeout=1800"
