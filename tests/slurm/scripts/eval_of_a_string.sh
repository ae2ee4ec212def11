#!/bin/bash
#SBATCH --nodes=1 --gres=gpu:8
CMD="torchrun --nproc_per_node=8 train.py"
CMD="${CMD} --config 'my config.yaml'"
[ -n "${RESUME:-}" ] && CMD="$CMD --resume $RESUME"
echo "running: $CMD"
eval "$CMD"
