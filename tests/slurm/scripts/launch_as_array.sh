#!/bin/bash
#SBATCH --nodes=2 --ntasks-per-node=1 --gres=gpu:8
LAUNCH=(srun --wait=60 torchrun --nnodes "$SLURM_NNODES" --nproc_per_node 8)
TRAIN=(train.py --name "run $SLURM_JOB_NAME")
"${LAUNCH[@]}" "${TRAIN[@]}"
