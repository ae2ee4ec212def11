accelerate launch --num_processes 2 -m trl.scripts.sft --model_name_or_path gpt2 --dataset_name d --per_device_train_batch_size 1
