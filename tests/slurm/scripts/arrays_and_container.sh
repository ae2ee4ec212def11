#!/bin/bash
#SBATCH --nodes=2
#SBATCH --job-name=llama3_1_8b-FSDP
#SBATCH --exclusive
#SBATCH --gres=gpu:8
set -ex;
GPUS_PER_NODE=8
: "${CONTAINER_MOUNT:=$PWD:/fsx}"
export NCCL_DEBUG=INFO
declare -a ARGS
if [ ! -z $CONTAINER_IMAGE ]; then
    export TRAIN_CONTAINER=1
    ARGS=(
        --container-image $CONTAINER_IMAGE
        --container-mounts $CONTAINER_MOUNT
    )
fi
declare -a TORCHRUN_ARGS=(
    --nproc_per_node=$GPUS_PER_NODE
    --nnodes=$SLURM_JOB_NUM_NODES
    --rdzv_id=$SLURM_JOB_ID
    --rdzv_backend=c10d
    --rdzv_endpoint=$(hostname)
)
export TORCHRUN=torchrun
export TRAIN_SCRIPT=./src/train.py
declare -a TRAINING_ARGS=(
    --max_context_width=8192
    --num_key_value_heads=8 # of 32
    --intermediate_size=14336
    --train_batch_size=1
    --val_batch_size=1
    --sharding_strategy="full"
    --offload_activations=1
)
AUTO_RESUME=""
if [ -d "/opt/sagemaker_cluster" ]; then
    AUTO_RESUME="--auto-resume=1"
fi
srun ${AUTO_RESUME} -l "${ARGS[@]}" ${TORCHRUN} "${TORCHRUN_ARGS[@]}" $TRAIN_SCRIPT "${TRAINING_ARGS[@]}"
