trl dpo --model_name_or_path gpt2 --dataset_name d --num_processes 2
