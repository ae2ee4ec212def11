#!/bin/bash
#SBATCH --nodes=2 --ntasks-per-node=1 --cpus-per-task=8
#SBATCH --gpus-per-node=4
export MASTER_ADDR=$(scontrol show hostname $SLURM_JOB_NODELIST | head -n1)
srun ./accelerate.sh --multi_gpu --num_processes=8 --num_machines=2 --mixed_precision=bf16 \
  --main_process_ip=$MASTER_ADDR --main_process_port=29500 train.py --epochs=100
