#!/bin/bash
#SBATCH --nodes=1 --gres=gpu:8
USE_FLASH=true
RESUME=
args=(--model m --lr 1e-4)
[[ $USE_FLASH == true ]] && args+=(--attn flash_attention_2)
if [[ -n $RESUME ]]; then
  args+=(--resume "$RESUME")
fi
args+=(--note "two words")
torchrun --standalone --nproc-per-node=8 train.py "${args[@]}"
