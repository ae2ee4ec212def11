# Full fine-tuning of Llama 3.1 8B on one RTX 4090: only another way to train fits.
preflight check --device rtx4090-24 -- \
    accelerate launch --config_file single.yaml sft.py \
    --model_name_or_path meta-llama/Llama-3.1-8B --dtype bfloat16 \
    --max_length 2048 --per_device_train_batch_size 1 --gradient_accumulation_steps 16
