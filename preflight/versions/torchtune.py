"""What changed in which release of torchtune."""

from __future__ import annotations

from preflight.versions.boundary import Boundary

DELETES_LOGITS = Boundary(
    "torchtune",
    "0.3",
    "the recipes delete the logits before backward; before, they live until they are made again",
    "recipes/full_finetune_distributed.py:651 `del logits` (0.3.1), :440 (0.1.1)",
)
