#!/bin/bash
#SBATCH --nodes=1
#SBATCH --gres=gpu:4
#SBATCH --cpus-per-task=8
set -eu
CONFIG=configs/sft.yaml
srun --ntasks=1 oumi distributed torchrun -m oumi train -c "$CONFIG" \
  --training.max_steps 100
