numactl --cpunodebind=0 --membind=0 env OMP_NUM_THREADS=8 accelerate launch --config_file accelerate/zero2.yaml train_loop.py
