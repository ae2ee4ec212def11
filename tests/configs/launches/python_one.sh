CUDA_VISIBLE_DEVICES=0 python train_hf.py --output_dir out --per_device_train_batch_size 2 --bf16
