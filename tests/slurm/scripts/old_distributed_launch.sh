#!/bin/bash
#SBATCH --nodes=2 --ntasks-per-node=1 --gres=gpu:4
GPUS_PER_NODE=4
NNODES=2
MASTER_ADDR=$(scontrol show hostnames $SLURM_JOB_NODELIST | head -n 1)
GPT_ARGS="--num-layers 24 --seq-length 1024"
CMD="pretrain_gpt.py $GPT_ARGS --fp16"
export LAUNCHER="python -u -m torch.distributed.launch --nproc_per_node $GPUS_PER_NODE --nnodes $NNODES --master_addr $MASTER_ADDR --master_port 6000"
srun --jobid $SLURM_JOBID bash -c '$LAUNCHER --node_rank $SLURM_PROCID '"$CMD" 2>&1 | tee log
