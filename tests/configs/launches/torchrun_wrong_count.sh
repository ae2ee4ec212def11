torchrun --nproc_per_node four train_loop.py
