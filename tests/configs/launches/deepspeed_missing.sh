deepspeed --num_gpus 8 train_hf.py --output_dir out --per_device_train_batch_size 2 --bf16 --deepspeed ds_config.json
