export CUDA_VISIBLE_DEVICES=1
nohup python -u train_hf.py --output_dir out --per_device_train_batch_size 2 --bf16 > log.txt 2>&1 &
