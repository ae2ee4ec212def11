#!/bin/bash
#SBATCH -N 2
#SBATCH --ntasks-per-node 1
#SBATCH --gpus-per-node 8
NPROC=${SLURM_GPUS_ON_NODE:-1}
NN=${SLURM_JOB_NUM_NODES:=1}
PORT=$((10000 + 29))
srun torchrun --nproc-per-node "$NPROC" --nnodes "$NN" --master-port "$PORT" train.py --accum "${ACCUM:-8}" --name "${SLURM_JOB_NAME}"
