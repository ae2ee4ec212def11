#!/bin/bash
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gres=gpu:8
set -euo pipefail
MODEL_PATH="${CORPUS_SCRATCH}/model"
TRAIN_FILES=$HOME/data/train.parquet
if [ ! -d "$MODEL_PATH" ]; then
  echo "Model not found: $MODEL_PATH" >&2
  exit 1
fi
MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export MASTER_ADDR
export MODEL_PATH
srun --ntasks-per-node=1 bash -c "
  set -e
  cd $PWD
  export NCCL_DEBUG=WARN
  torchrun --nnodes=$SLURM_NNODES --nproc_per_node=8 \
    --node_rank=\$SLURM_NODEID --master_addr=$MASTER_ADDR --master_port=29500 \
    -m verl.trainer.fsdp_sft_trainer \
    data.train_files=data/train.parquet \
    data.micro_batch_size_per_gpu=4 \
    model.partial_pretrain=\$MODEL_PATH \
    trainer.project_name=sft
"
