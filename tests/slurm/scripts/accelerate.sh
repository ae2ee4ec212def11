#!/bin/bash
# Beside the job script: the launcher, once on every node.
accelerate launch --machine_rank=$SLURM_NODEID "$@"
