"""Starts a training on two ranks, after preflight has looked at it."""

from __future__ import annotations

import argparse
import os
import sys

import preflight


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", help="in place of the one in preflight.toml")
    options, flags = parser.parse_known_args()
    argv = ["torchrun", "--nproc_per_node", "2", "train.py", "--model_name_or_path", "model"]
    argv += ["--max_length", "512", "--per_device_train_batch_size", "4", "--max_steps", "1"]
    argv += ["--use_cpu", "--save_strategy", "no", "--report_to", "none", "--output_dir", "out"]
    try:
        argv = preflight.before_launch([*argv, *flags], device=options.device)
    except preflight.LaunchRefused as refused:
        print(refused, file=sys.stderr)
        sys.exit(refused.exit_code)
    sys.stderr.flush()
    os.execvp(argv[0], argv)


if __name__ == "__main__":
    main()
