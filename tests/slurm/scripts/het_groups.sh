#!/bin/bash
#SBATCH --nodes=1 --ntasks=1 --gres=gpu:8
#SBATCH hetjob
#SBATCH --nodes=1 --ntasks=1 --gres=gpu:8
srun --het-group=0 torchrun --nproc_per_node=8 actor.py --role actor &
srun --het-group=1 torchrun --nproc_per_node=8 critic.py --role critic &
wait
