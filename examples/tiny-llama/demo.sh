#!/bin/bash
# Shows a check, a diff, and the rewritten launch really started: two ranks on the CPU.
# `make demo` runs it with everything installed.
set -euo pipefail
cd "$(dirname "$0")"

device=tiny:0.14 # GiB per rank: more than the model states, less than they and the activations
launch=(
    accelerate launch --config_file fsdp2.yaml train_trainer.py
    --model_name_or_path . --max_length 512 --per_device_train_batch_size 2
    --max_steps 3 --learning_rate 3e-3 --output_dir out --report_to none --save_strategy no
)

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
quote() { printf '%q ' "$@"; }

rm -rf .preflight out probe
say "\$ preflight check --device $device -- $(quote "${launch[@]}")"
preflight check --device "$device" -- "${launch[@]}" || [ $? -eq 1 ] # does not fit as written

say "\$ preflight fix --device $device -- ... 2>/dev/null"
preflight fix --device "$device" -- "${launch[@]}" 2>/dev/null

say "\$ diff -u fsdp2.yaml .preflight/fsdp2.yaml"
diff -u fsdp2.yaml .preflight/fsdp2.yaml || [ $? -eq 1 ]

say "\$ preflight run --device $device -- ..."
mkdir probe
# The patch that lets accelerate shard without a GPU, and the probe: see tests/launches/worker.
PYTHONPATH="$PWD/../../tests/launches/worker" \
    PREFLIGHT_TEST_CPU_RANKS=1 PREFLIGHT_TEST_PROBE="$PWD/probe" \
    CUDA_VISIBLE_DEVICES="" OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false HF_HUB_OFFLINE=1 \
    preflight run --device "$device" -- "${launch[@]}"

say "What the ranks got, counted while they trained:"
python show_probe.py probe
