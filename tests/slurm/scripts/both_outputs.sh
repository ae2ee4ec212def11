#!/bin/bash
#SBATCH --nodes=1 --gres=gpu:8
set -o pipefail
LOGDIR=logs/$(basename "$PWD")
mkdir -p "$LOGDIR"
srun --output="$LOGDIR/%t.log" torchrun --nproc_per_node=8 train.py |& tee "$LOGDIR/all.log"
