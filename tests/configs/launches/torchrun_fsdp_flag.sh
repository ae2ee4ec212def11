torchrun --nproc-per-node=8 train_hf.py --output_dir out --per_device_train_batch_size 2 --bf16 --fsdp "full_shard auto_wrap"
