"""What changed in which release of LLaMA-Factory."""

from __future__ import annotations

from preflight.versions.boundary import Boundary

_NAME = "llamafactory"

KTO_HANDS_ON_LOGITS = Boundary(
    _NAME,
    "0.9.1",
    "stage kto hands its logits on to its metrics, and so they live beside the rows of the KL term and the reference",
    "train/kto/trainer.py forward and concatenated_forward: log-probabilities alone in 0.9.0, logits in 0.9.1",
    "0.9.5",
)
OVERLAPS_NOTHING = Boundary(
    _NAME,
    "0.9.3",
    "the DeepSpeed configs of its examples say overlap_comm: false; true before",
    "examples/deepspeed/ds_z*.json: true in copies of 0.9.1 and 0.9.2.dev0, false in 0.9.5 and in a copy of spring 2025",
    "0.9.5",
)
