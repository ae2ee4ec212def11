CUDA_VISIBLE_DEVICES=0,1,2,3 accelerate launch --multi_gpu --num_processes 4 --gpu_ids 0,1,2,3 train_loop.py
