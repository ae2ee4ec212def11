#!/bin/bash
#SBATCH --nodes=1
#SBATCH --constraint=nvlink
#SBATCH --gres=gpu:8
#SBATCH --cpus-per-task=8
# args: epochs=1 batch_size=2
set -eu
CFG=llama3_2/1B_full
srun tune run \
  --nproc_per_node 8 \
  full_finetune_distributed \
  --config $CFG \
  "$@"
