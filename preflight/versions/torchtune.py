"""What changed in which release of torchtune."""

from __future__ import annotations

from preflight.versions.boundary import Boundary

DELETES_LOGITS = Boundary(
    "torchtune",
    "0.3",
    "the recipes delete the logits before backward; before, they live until they are made again",
    "recipes/full_finetune_distributed.py:651 `del logits` (0.3.1), :440 (0.1.1)",
)
NORMALISES_IN_FP32 = Boundary(
    "torchtune",
    "0.5",
    "RMSNorm is torch's, of rows in fp32 with a weight in 16 bits; before, rows are cast and then multiplied",
    "modules/rms_norm.py F.rms_norm (0.5.0), x_normed.type_as(x) (0.4.0)",
)
EMPTIES_REFERENCE = Boundary(
    "torchtune",
    "0.7",
    "DPO's recipes let go of the reference's logits before it runs again; before, when it has run",
    "recipes/lora_dpo_distributed.py:688 ChosenRejectedOutputs of nothing (0.7.0.dev), :712 `_, _` (0.6.1)",
)
