accelerate launch --config_file accelerate/ddp.yaml --num_machines 2 --num_processes 16 --machine_rank 0 train_loop.py
