size=8b
while [ $# -gt 1 ]; do
  case $1 in
    --size) size=$2; shift 2 ;;
  esac
done
torchrun --nnodes "$SLURM_NNODES" --nproc_per_node 8 --rdzv_endpoint "$1:29500" train.py --size $size --rank $SLURM_PROCID
