#!/bin/sh
#SBATCH --nodes=2 --ntasks-per-node=1 --gres=gpu:8
NODES=`scontrol show hostnames $SLURM_JOB_NODELIST | paste -sd, `
N=`expr $SLURM_NNODES '*' 8`
srun torchrun --nnodes $SLURM_NNODES --nproc_per_node 8 train.py --ranks $N --hosts "$NODES"
