apptainer exec --nv --bind $PWD:/workspace train.sif accelerate launch --config_file accelerate/fsdp1.yaml train_loop.py
