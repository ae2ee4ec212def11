#!/bin/bash
#SBATCH --nodes=2 --ntasks-per-node=1 --gres=gpu:8
MAIN=$(scontrol show hostnames $SLURM_JOB_NODELIST | head -n 1)
cat > acc_$SLURM_JOB_ID.yaml <<EOF
compute_environment: LOCAL_MACHINE
distributed_type: FSDP
num_machines: $SLURM_NNODES
num_processes: $((SLURM_NNODES * 8))
main_process_ip: $MAIN
main_process_port: 29500
EOF
srun bash -c "accelerate launch --config_file acc_$SLURM_JOB_ID.yaml --machine_rank \$SLURM_NODEID train.py"
