#!/bin/bash
#SBATCH --nodes=1
#SBATCH --gres=gpu:8
#SBATCH --cpus-per-task=16
set -eu
RECIPE=recipes/qwen3_4b.yaml
srun --ntasks=1 automodel "$RECIPE" --nproc-per-node 8 \
  --step_scheduler.local_batch_size 2
