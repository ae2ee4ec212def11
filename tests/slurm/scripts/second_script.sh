#!/bin/bash
#SBATCH --nodes=2 --ntasks-per-node=1 --gres=gpu:8
export NODE0=$(scontrol show hostnames $SLURM_JOB_NODELIST | head -n 1)
srun bash launch.sh --size 8b "$NODE0"
