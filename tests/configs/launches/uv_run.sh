uv run --with deepspeed accelerate launch --config_file accelerate/ddp.yaml train_loop.py
