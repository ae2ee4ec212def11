#!/bin/bash
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=4
module purge
module load pytorch
srun python3 train.py --epochs=100 --deepspeed --deepspeed_config ds.json
