accelerate launch ---num_processes 4 train_loop.py
