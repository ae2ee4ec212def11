#!/bin/bash
#SBATCH -N 1
#SBATCH --gpus=8
FORCE_TORCHRUN=1 llamafactory-cli train examples/train_full/llama3_full_sft_ds3.yaml
