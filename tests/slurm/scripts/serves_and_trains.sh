#!/bin/bash
#SBATCH --nodes=2
#SBATCH --gres=gpu:8
#SBATCH --ntasks-per-node=1
MODEL=Qwen/Qwen2.5-7B
NUM_TRAINING=$((SLURM_NNODES - 1))
NODELIST=( $(scontrol show hostnames $SLURM_JOB_NODELIST) )
TRAIN_NODES="${NODELIST[@]:0:$NUM_TRAINING}"
VLLM_NODE="${NODELIST[$NUM_TRAINING]}"
TRAIN_LIST=$(echo $TRAIN_NODES | tr ' ' ',')
TP=4
LAUNCHER="accelerate launch --config_file fsdp.yaml --num_machines $NUM_TRAINING --num_processes $((NUM_TRAINING * 8)) --machine_rank \$SLURM_PROCID"
CMD="train_grpo.py --model_name_or_path $MODEL --vllm_server_host $VLLM_NODE"
srun --nodes=$NUM_TRAINING --ntasks=$NUM_TRAINING --nodelist="$TRAIN_LIST" bash -c "$LAUNCHER $CMD" &
srun --nodes=1 --ntasks=1 --nodelist="$VLLM_NODE" trl vllm-serve --model $MODEL --tensor_parallel_size $TP &
wait
