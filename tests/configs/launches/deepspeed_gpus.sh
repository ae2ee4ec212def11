deepspeed --num_gpus 8 train_hf.py --output_dir out --bf16 --per_device_train_batch_size 4 --gradient_accumulation_steps 2 --deepspeed deepspeed/trainer_zero3.json
