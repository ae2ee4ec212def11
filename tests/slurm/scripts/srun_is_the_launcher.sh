#!/bin/bash
#SBATCH --nodes=2 --ntasks-per-node=4 --gres=gpu:4
export MASTER_ADDR=$(scontrol show hostnames $SLURM_JOB_NODELIST | head -n 1)
export MASTER_PORT=6000
export WORLD_SIZE=$SLURM_NTASKS
PROGRAM="train.py --lr 1e-4 --world $WORLD_SIZE"
CMD="python -u $PROGRAM"
srun bash -c "RANK=\$SLURM_PROCID LOCAL_RANK=\$SLURM_LOCALID $CMD" 2>&1 | tee log.txt
