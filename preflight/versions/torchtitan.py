"""What changed in which release of torchtitan."""

from __future__ import annotations

from functools import partial

from preflight.versions.boundary import Boundary

_since = partial(Boundary, "torchtitan")

DELETES_LOGITS = _since(
    "0.1",
    "the loop deletes the logits before backward; before, they live until they are made again",
    "train.py:412 `del pred` (0.1.0); train.py of 2024-05",
)
LOSS_UPCASTS_LOGITS = _since(
    "0.1",
    "the loss casts the logits to fp32; before, the model returned fp32 logits",
    "components/loss.py:20 (0.1.0), :60 (0.3.0); models/llama/model.py output.float() of 2024-05",
    "0.3.0",
)
WANTS_TORCH_2_6 = _since(
    "0.1", "it asks for a newer torch than 2.6", "README of 0.1.0: a nightly of 2025"
)
WRAPS_BOTH_ENDS = _since(
    "0.2",
    "FSDP has a unit for the embedding and one for norm and head, which stays gathered to its backward, and frees every"
    " block; before, both were in the root unit, and the last block stayed",
    "models/llama3/infra/parallelize.py apply_fsdp: 362-367 (0.1.0), 298-318 (0.2.0); distributed/fsdp.py (0.3.0)",
    "0.3.0",
)
CONFIGS_ARE_PYTHON = _since(
    "0.3",
    "configs are functions (`--module llama3 --config llama3_8b`); before, TOML files",
    "the wheels of 0.2.2 and 0.3.0",
    "0.3.0",
)
