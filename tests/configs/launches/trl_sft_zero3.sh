trl sft --accelerate_config zero3 --model_name_or_path Qwen/Qwen2.5-7B --dataset_name d --use_peft --lora_r 8
