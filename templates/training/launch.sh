#!/bin/bash
# Starts the training if it fits; where only safe changes make it fit, shows them and starts the changed copy.
# More flags may follow: ./launch.sh --max_length 2048
set -euo pipefail
cd "$(dirname "$0")"
export OMP_NUM_THREADS=8  # a rank's share of the cores; torchrun would take 1, and data loading waits

exec preflight run --device h100-sxm-80 -- accelerate launch --config_file accelerate.yaml train.py --config training.yaml "$@"
