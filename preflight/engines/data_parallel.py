"""What Trainer does in one process that sees several GPUs, and nobody asked for: nn.DataParallel.

Source: TrainingArguments._setup_devices and Trainer._wrap_model of transformers 5.24.0, and the
check of n_gpu in the trainers of TRL 1.16.0.
"""

from __future__ import annotations

from collections.abc import Iterator

from preflight.errors import Problem
from preflight.plan_choices import HF_TRAINERS
from preflight.trainers.arguments import TrainerArguments
from preflight.unpriced_names import REPLICAS


def data_parallel(trainer: TrainerArguments, num_devices: int, launcher: str) -> Iterator[Problem]:
    """Name what Trainer does in one process that sees several GPUs, which no formula counts; TRL's trainers refuse it."""
    if num_devices < 2 or trainer.trainer not in HF_TRAINERS:
        return
    means = f"{num_devices} times the micro batch per step, and the first GPU holds the model states and gathers what all others return"
    if trainer.trainer == "trl":
        means = "and TRL's trainers stop unless device_map spreads the model"
    yield Problem.left_out(
        f"one process sees {num_devices} GPUs: Trainer takes nn.DataParallel, {means}",
        launcher,
        REPLICAS,
        "more",
        f"torchrun --nproc-per-node {num_devices} in place of {launcher}, or CUDA_VISIBLE_DEVICES=0",
        "PF136",
    )
