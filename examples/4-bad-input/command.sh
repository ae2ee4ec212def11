# Every fault of the file at once, each with its place and its fix.
preflight check --device h100-sxm-80 -- \
    accelerate launch --config_file broken.yaml train.py \
    --model_name_or_path meta-llama/Llama-3.1-8B --max_length 4096 \
    --per_device_train_batch_size 1 --output_dir out
