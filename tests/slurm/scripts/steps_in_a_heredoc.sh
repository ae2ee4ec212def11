#!/bin/bash
#SBATCH --nodes=1 --ntasks=1 --gres=gpu:8
NPROC=8
srun bash <<EOF
export RUN=x
torchrun --nproc_per_node=$NPROC train.py --run \$RUN --rank \$SLURM_PROCID
EOF
