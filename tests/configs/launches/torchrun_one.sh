torchrun train_loop.py
