#!/bin/bash
#SBATCH --array=1-2
#SBATCH --nodes=1
#SBATCH --gres=gpu:8
MODELS=(none meta-llama/Llama-3.2-1B Qwen/Qwen2.5-7B)
MODEL=${MODELS[1]}
NAME=${MODEL##*/}
srun torchrun --nproc_per_node=8 train.py --model $MODEL --name "${NAME,,}" --out "out/${NAME%-*}"
