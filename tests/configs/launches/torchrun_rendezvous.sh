torchrun \
  --nnodes=4 --nproc_per_node=8 \
  --rdzv_id=42 --rdzv_backend=c10d --rdzv_endpoint=head:29400 \
  train_loop.py
