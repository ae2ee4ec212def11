#!/bin/bash
set -euo pipefail

torchrun --standalone --nproc_per_node=4 train_hf.py --output_dir out --per_device_train_batch_size 2 --bf16
