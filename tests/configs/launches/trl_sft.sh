trl sft \
    --model_name_or_path Qwen/Qwen2.5-0.5B \
    --dataset_name trl-lib/Capybara \
    --num_processes 4 \
    --max_length 2048 --packing True
