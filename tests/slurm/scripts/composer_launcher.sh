#!/bin/bash
#SBATCH --nodes=2 --ntasks-per-node=1 --gres=gpu:8
srun bash -c 'composer -n 8 --world_size 16 --node_rank $SLURM_NODEID train.py llama.yaml max_duration=1ep'
