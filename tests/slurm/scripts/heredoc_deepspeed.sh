#!/bin/bash
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8
#SBATCH --gres=gpu:8
set -euxo pipefail
ZERO_STAGE=3
MICRO=2
mkdir -p configs
CONFIG_JSON="configs/ds_config_run.json"
cat <<EOT > $CONFIG_JSON
{
  "train_micro_batch_size_per_gpu": $MICRO,
  "zero_optimization": {"stage": $ZERO_STAGE, "reduce_bucket_size": 5e8},
  "bf16": {"enabled": true}
}
EOT
ds_args=""
ds_args=" --deepspeed ${ds_args}"
ds_args=" --deepspeed_config=$CONFIG_JSON ${ds_args}"
srun -l python -u pretrain_gpt.py --micro-batch-size $MICRO ${ds_args}
