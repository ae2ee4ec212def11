docker run --rm --gpus all --ipc=host -v $PWD:/work -w /work train:latest accelerate launch --config_file accelerate/ddp.yaml train_loop.py
