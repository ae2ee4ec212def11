# the old launcher
python3 -m torch.distributed.launch --nproc_per_node=2 --use_env train_hf.py --output_dir out --per_device_train_batch_size 2 --bf16
