"""What changed in which release of axolotl."""

from __future__ import annotations

from functools import partial

from preflight.versions.boundary import Boundary

_since = partial(Boundary, "axolotl")

BRINGS_FLA = _since(
    "0.15",
    "it depends on flash-linear-attention, except on aarch64",
    "requirements.txt: in 0.15.0 and 0.16.1, not in 0.14.0; Requires-Dist in 0.17.0 and 0.19.0",
    "0.19.0",
)
ORDERS_STACKS = _since(
    "0.16",
    "adapters on both packed stacks of experts are put on in the order in which the module defines them, gate and up first;"
    " before, by name, down first",
    "monkeypatch/moe_quant.py patch_peft_target_parameters_matching: expert_param_order in 0.16.0, sorted(expanded) in 0.15.0",
    "0.19.0",
)
REBUILDS_UNPACKED = _since(
    "0.18",
    "scattermoe unpacks a layer's stacks again in backward; before, every layer's stay",
    "integrations/kernels/libs/scattermoe_lora/experts.py: gate_up_weight.recipe in 0.18.0, not in 0.17.0",
    "0.19.0",
)
TRAINS_INNER_ADAPTERS = _since(
    "0.19",
    "the first of two adapters on packed stacks of one module trains; before, the other one's cache has its stack from"
    " before it was put on, so that it is never read",
    "monkeypatch/moe_quant.py _patched_activate_lora: in 0.19.0, not in 0.18.0; run with PEFT 0.19.1 and 0.20.0 below"
    " bitsandbytes 0.49.1 and 0.50.2: gradients of one adapter are None",
    "0.19.0",
)
