# LoRA on Llama 3.1 70B on two MI210, without room in host memory: the base fits only if it is quantized.
preflight check --device mi210-64 --forbid offload_optimizer -- \
    accelerate launch --config_file fsdp2.yaml sft.py \
    --model_name_or_path meta-llama/Llama-3.1-70B --dtype bfloat16 \
    --use_peft --lora_r 16 --lora_target_modules q_proj v_proj \
    --max_length 1024 --per_device_train_batch_size 1 --gradient_accumulation_steps 16
