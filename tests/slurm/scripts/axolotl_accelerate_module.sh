#!/bin/bash
#SBATCH --nodes=1 --gres=gpu:8
module load cuda/12.4
source ~/miniconda3/etc/profile.d/conda.sh
conda activate axolotl
CONFIG=train.yaml
axolotl preprocess $CONFIG
accelerate launch -m axolotl.cli.train $CONFIG --deepspeed ds.json
