#!/bin/bash
#SBATCH --nodes=1 --gpus-per-node=4
CONFIG=dpo.yaml
trl dpo --config "$CONFIG" --num_processes "$SLURM_GPUS_ON_NODE"
