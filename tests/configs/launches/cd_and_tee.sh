cd scripts && accelerate launch --num_processes 1 later_attributes.py 2>&1 | tee log
