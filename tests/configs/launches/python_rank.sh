RANK=0 LOCAL_RANK=0 WORLD_SIZE=2 MASTER_ADDR=localhost MASTER_PORT=29500 python train_hf.py --output_dir out --per_device_train_batch_size 2 --bf16
