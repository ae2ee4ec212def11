python tools/download.py --model gpt2
torchrun --nproc_per_node 2 train_hf.py --output_dir out --per_device_train_batch_size 2 --bf16 && echo done
