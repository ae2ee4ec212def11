#!/bin/bash
#SBATCH --ntasks-per-node=1
#SBATCH --nodes=1
#SBATCH --exclusive
#SBATCH --gres=gpu:8
# args: zephyr sft full deepspeed
set -x -e
MODEL=$1
TASK=$2
PRECISION=$3
ACCELERATOR=$4
OPTIONAL_ARGS=$5
NUM_NODES=$SLURM_NNODES
GPUS_PER_NODE=8
WORLD_SIZE=$(($NUM_NODES*$GPUS_PER_NODE))
MASTER_ADDR=$(scontrol show hostnames $SLURM_JOB_NODELIST | head -n 1)
export CMD=" scripts/run_$TASK.py recipes/$MODEL/$TASK/config_$PRECISION.yaml $OPTIONAL_ARGS"
export LAUNCHER="HF_HUB_ENABLE_HF_TRANSFER=1 accelerate launch \
    --config_file recipes/accelerate_configs/$ACCELERATOR.yaml  \
    --num_machines $NUM_NODES \
    --num_processes $WORLD_SIZE \
    --main_process_ip $MASTER_ADDR \
    --main_process_port 6000 \
    --machine_rank \$SLURM_PROCID \
    --rdzv_conf rdzv_backend=c10d \
    --tee 3"
clear; srun --wait=60 --kill-on-bad-exit=1 --jobid $SLURM_JOB_ID bash -c "$LAUNCHER --role \$SLURMD_NODENAME: $CMD" 2>&1
