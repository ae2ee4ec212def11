#!/bin/bash
#SBATCH --nodes=2 --ntasks-per-node=1 --gres=gpu:8
export MASTER_ADDR=$(scontrol show hostnames $SLURM_JOB_NODELIST | head -n 1)
export MASTER_PORT=29500
export NNODES=$SLURM_NNODES
export FORCE_TORCHRUN=1
srun bash -c 'NODE_RANK=$SLURM_PROCID llamafactory-cli train llama3_full_sft.yaml num_train_epochs=1'
