#!/bin/bash
#SBATCH --nodes=1 --gres=gpu:8
BS=2
sed -e "s/@BS@/$BS/" -e 's/@LR@/1e-5/' template.yaml > run.yaml
sed -i "s/@SEQ@/4096/" run.yaml
SEQ=$(grep '^sequence_len' run.yaml | cut -d' ' -f2)
accelerate launch --num_processes 8 -m axolotl.cli.train run.yaml --sequence_len $SEQ
