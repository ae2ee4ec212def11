export HEAD=node-0
srun --jobid $SLURM_JOBID bash -c "accelerate launch --config_file accelerate/fsdp2.yaml --num_machines 2 --num_processes 16 --machine_rank \$SLURM_PROCID --main_process_ip $HEAD --main_process_port 29500 train_loop.py"
