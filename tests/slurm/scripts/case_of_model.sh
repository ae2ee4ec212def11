#!/bin/bash
#SBATCH --nodes=1 --gres=gpu:8
# args: 8b
case "${1:-7b}" in
  7b|8b) BS=4; CFG=fsdp.yaml ;;
  70b) BS=1; CFG=zero3.yaml ;;
  *) echo "unknown size $1"; exit 1 ;;
esac
accelerate launch --config_file $CFG train.py --per_device_train_batch_size $BS
