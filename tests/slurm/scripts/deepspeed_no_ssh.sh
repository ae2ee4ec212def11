#!/bin/bash
#SBATCH --nodes=2 --ntasks-per-node=1 --gres=gpu:8
GPUS=8
MASTER=$(scontrol show hostnames $SLURM_JOB_NODELIST | head -n 1)
srun bash -c "deepspeed --no_ssh --node_rank \$SLURM_NODEID --num_nodes $SLURM_NNODES --num_gpus $GPUS --master_addr $MASTER --master_port 29501 train.py --deepspeed --deepspeed_config ds.json"
