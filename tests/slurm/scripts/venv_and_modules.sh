#!/bin/bash
#SBATCH --nodes=1
#SBATCH --gpus-per-node=4
#SBATCH --account=def-someone
module --force purge
module load StdEnv/2023 python/3.11 cuda arrow
virtualenv --no-download $SLURM_TMPDIR/env
source $SLURM_TMPDIR/env/bin/activate
pip install --no-index -r requirements.txt
export HF_HUB_OFFLINE=1
python -m accelerate.commands.launch --multi_gpu --num_processes 4 train.py
