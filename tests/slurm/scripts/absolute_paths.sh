#!/bin/bash
#SBATCH --nodes=1 --ntasks=1 --gres=gpu:8
VENV=$CORPUS_SCRATCH/venv
PYTHON=$VENV/bin/python
$PYTHON -m torch.distributed.run --nproc_per_node=8 train.py --a 1
"$VENV"/bin/accelerate launch --num_processes 8 train.py --b 2
srun $VENV/bin/torchrun --nproc_per_node=8 train.py --c 3
