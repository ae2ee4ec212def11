#!/bin/bash
#SBATCH --nodes=1 --gres=gpu:4
CONTAINER="singularity exec --nv --bind $PWD:/work lumi.sif"
LAUNCHER="accelerate launch --num_processes 4 --config_file fsdp.yaml"
srun --ntasks=1 $CONTAINER bash -c "$LAUNCHER train.py --output_dir out"
