#!/bin/bash
#SBATCH --nodes=1 --gres=gpu:8
# args: -m small -b 16 extra
while getopts "m:b:" opt; do
  case $opt in
    m) MODEL=$OPTARG ;;
    b) BATCH=$OPTARG ;;
  esac
done
shift $((OPTIND - 1))
python -m torch.distributed.run --nproc_per_node=8 train.py --model $MODEL --batch $BATCH $1
