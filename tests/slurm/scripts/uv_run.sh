#!/bin/bash
#SBATCH --nodes=1 --gres=gpu:8
export UV_CACHE_DIR=$TMPDIR/uv
uv run --no-sync torchrun --nproc_per_node=gpu train.py --epochs 3
