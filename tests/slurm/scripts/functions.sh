#!/bin/bash
#SBATCH --nodes=1 --gres=gpu:8
setup() {
  export OMP_NUM_THREADS=$1
  LAUNCH="torchrun --standalone --nproc_per_node=8"
}
train() {
  local name=$1 lr=$2
  shift 2
  srun --ntasks=1 $LAUNCH train.py --run_name "$name" --lr $lr "$@"
}
main() {
  setup 12
  train warm 1e-5 --steps 10
  train "full run" 3e-5
}
main "$@"
