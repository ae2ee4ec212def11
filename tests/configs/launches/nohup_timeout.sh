nohup timeout 48h accelerate launch --config_file accelerate/zero1.yaml train_loop.py &> out.log &
