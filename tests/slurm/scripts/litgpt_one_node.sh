#!/bin/bash
#SBATCH --nodes=1
#SBATCH --gres=gpu:4
#SBATCH --cpus-per-task=8
set -eu
MODEL=meta-llama/Llama-3.2-1B
srun --ntasks=1 litgpt finetune_lora "$MODEL" \
  --devices 4 \
  --precision bf16-true \
  --train.max_seq_length 2048
