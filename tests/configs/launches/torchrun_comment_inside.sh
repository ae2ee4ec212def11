torchrun --nproc_per_node 4 \
  # --master_port 29501 \
  train_hf.py --output_dir out --per_device_train_batch_size 2 --bf16
