#!/bin/bash
#SBATCH --ntasks=2 --nodes=2 --gpus-per-node=8
# args: --training.steps=10
set -o pipefail
MODULE=${MODULE:-llama3}
CONFIG=${CONFIG:-llama3_8b}
NGPU=${NGPU:-"8"}
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n1)
srun --label torchrun --nnodes $SLURM_NNODES --nproc_per_node ${NGPU} --rdzv_backend c10d \
  --rdzv_endpoint "$head:29500" -m torchtitan.train --module ${MODULE} --config ${CONFIG} "$@"
