#!/bin/bash
#SBATCH --nodes=1 --gres=gpu:8
MODEL=meta-llama/Llama-3.1-8B
printf -v RUN "%s-bs%02d" "${MODEL##*/}" 4
ORG=${MODEL%%/*}
SAFE=${MODEL//\//_}
torchrun --nproc_per_node 8 train.py --run "$RUN" --org $ORG --cache "/data/$SAFE" --size ${MODEL: -2}
