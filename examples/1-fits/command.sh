# LoRA on Llama 3.1 8B with TRL, on one node of eight H100.
preflight check --device h100-sxm-80 -- \
    accelerate launch --config_file fsdp2.yaml sft.py \
    --model_name_or_path meta-llama/Llama-3.1-8B --dtype bfloat16 \
    --use_peft --lora_r 16 --lora_target_modules all-linear \
    --max_length 4096 --per_device_train_batch_size 2 --gradient_accumulation_steps 4
