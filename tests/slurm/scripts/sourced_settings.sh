#!/bin/bash
#SBATCH --nodes=1 --gres=gpu:8
cd "${SLURM_SUBMIT_DIR}"
source settings.env
. ./paths.sh
srun accelerate launch --config_file "$ACC_CONFIG" --num_processes $NPROC "$TRAIN_DIR/train.py" --lr $LR
