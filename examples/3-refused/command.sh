# Full fine-tuning of Llama 3.1 405B on one node of eight H100: nothing safe makes it fit, not even with host memory.
preflight run --device h100-sxm-80 -- \
    accelerate launch --config_file zero3.yaml train.py \
    --model_name_or_path meta-llama/Llama-3.1-405B \
    --max_length 4096 --per_device_train_batch_size 1 --gradient_accumulation_steps 8 \
    --gradient_checkpointing True --bf16 True --output_dir out
