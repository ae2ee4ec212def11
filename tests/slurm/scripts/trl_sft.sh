#!/bin/bash
#SBATCH --nodes=1 --gres=gpu:8
trl sft --model_name_or_path Qwen/Qwen2.5-0.5B --dataset_name trl-lib/Capybara --accelerate_config fsdp2 --num_processes 8 --output_dir out
