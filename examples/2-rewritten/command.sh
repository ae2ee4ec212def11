# Full fine-tuning of Llama 3.1 8B on long sequences, without checkpointing.
preflight fix --device h100-sxm-80 -- \
    accelerate launch --config_file fsdp2.yaml train.py \
    --model_name_or_path meta-llama/Llama-3.1-8B \
    --max_length 16384 --per_device_train_batch_size 1 --gradient_accumulation_steps 4 \
    --bf16 True --output_dir out
