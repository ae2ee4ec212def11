ACCELERATE_LOG_LEVEL=info TRANSFORMERS_VERBOSITY=info accelerate launch --config_file accelerate/fsdp1.yaml --num_processes=4 train_loop.py
