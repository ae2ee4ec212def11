ARGS="--output_dir out
  --per_device_train_batch_size 2
  --bf16"
accelerate launch --config_file accelerate/zero_file_auto.yaml train_hf.py $ARGS --gradient_accumulation_steps 4
