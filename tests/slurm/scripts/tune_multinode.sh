#!/bin/bash
#SBATCH --job-name=torchtune_multi_node
#SBATCH --ntasks=2
#SBATCH --nodes=2
#SBATCH --gpus-per-task=8
#SBATCH --cpus-per-task=16
nodes=( $( scontrol show hostnames $SLURM_JOB_NODELIST ) )
nodes_array=($nodes)
head_node=${nodes_array[0]}
head_node_ip=$(srun --nodes=1 --ntasks=1 -w "$head_node" hostname --ip-address)
export TORCH_DIST_INIT_BARRIER=1
export LOGLEVEL=INFO
SHARED_FS=/mnt/slurm
CHECKPOINT_DIR="$SHARED_FS/Meta-Llama-3.3-70B-Instruct/"
OUTPUT_DIR="$SHARED_FS/output/"
srun tune run --nnodes 2 --nproc_per_node 8 --rdzv_id 101 --rdzv_backend c10d --rdzv_endpoint "$head_node_ip:29500" \
    full_finetune_distributed --config llama3_3/70B_full_multinode \
    checkpoint_dir=$CHECKPOINT_DIR output_dir=$OUTPUT_DIR
