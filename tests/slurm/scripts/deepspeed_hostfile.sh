#!/bin/bash
#SBATCH --nodes=2 --ntasks-per-node=1 --gres=gpu:8
HOSTFILE=hostfile.$SLURM_JOB_ID
for h in $(scontrol show hostnames $SLURM_JOB_NODELIST); do
  echo "$h slots=8" >> $HOSTFILE
done
MASTER=$(head -n 1 $HOSTFILE | cut -d' ' -f1)
deepspeed --hostfile=$HOSTFILE --master_addr $MASTER --master_port 29500 train.py --deepspeed ds.json --bs 4
