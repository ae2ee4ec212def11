for lr in 1e-5 2e-5; do
  torchrun --nproc_per_node 2 train_hf.py --output_dir out --per_device_train_batch_size 2 --bf16 --learning_rate $lr
done
