"""A family's own coefficients: what its layers keep and need in passing, solved from traces (families/costs).

`python -m preflight.families.derive_costs` writes them from the installed transformers. They hold for
the methods below; what a plan has that those have not (dropout, padding, other targets, autocast) is
added as the difference that the pieces of preflight/layer_costs.py make.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

from preflight.launch import Adapter, LaunchPlan
from preflight.model import ModelSpec, ModelUnit
from preflight.precision import Precision

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "families", "costs")
METHODS: dict[str, dict[str, Any]] = {
    "full": {},
    "LoRA": {"adapter": Adapter("lora", 8, 16, 0.0, "all-linear", "bf16")},
    "LoRA, fp32 adapters": {"adapter": Adapter("lora", 8, 16, 0.0, "all-linear", "fp32")},
}
"""What trains, on a bf16 base, one device, no autocast."""
CHECKPOINTED = ", checkpointed"


@lru_cache(maxsize=8)
def family_costs(model_type: str) -> Mapping[str, Any] | None:
    """Return the file of a family; None for one that was not derived."""
    import json

    path = os.path.join(FOLDER, f"{model_type}.json")
    if not model_type.replace("_", "").isalnum() or not os.path.isfile(path):
        return None
    with open(path, encoding="utf-8") as file:
        found: Mapping[str, Any] = json.load(file)
    return found


def kind_of(unit: ModelUnit) -> str:
    """Return the name of a unit's kind in the file: `dense, sliding`."""
    assert unit.layer is not None
    return f"{'experts' if unit.layer.num_experts else 'dense'}, {unit.layer.attention_kind}"


def method_of(plan: LaunchPlan, precision: Precision) -> str:
    """Return the method that a plan is nearest to."""
    if plan.adapter is None:
        return "full"
    wide = precision.trainable == "fp32" and precision.compute != "fp32" and not plan.is_fsdp
    return "LoRA, fp32 adapters" if wide else "LoRA"


def layer_forms(
    plan: LaunchPlan, model: ModelSpec, unit: ModelUnit, method: str, checkpointed: bool
) -> Mapping[str, Any] | None:
    """Return the forms of a unit's layers: `saved`, `forward`, `backward`; None where nobody derived them.

    A window that no sequence leaves needs no mask: such a layer is like a full one.
    """
    costs = family_costs(model.model_type)
    if costs is None or unit.layer is None:
        return None
    kinds = costs["kinds"]
    kind = kind_of(unit)
    first = kind.partition(",")[0]
    if not has_window_mask(plan, unit) and f"{first}, full" in kinds:
        kind = f"{first}, full"
    alike = [name for name in kinds if name.startswith(first)]
    forms = kinds.get(kind) or (kinds[alike[0]] if alike else {})
    found: Mapping[str, Any] | None = forms.get(method + (CHECKPOINTED if checkpointed else ""))
    return found


def has_window_mask(plan: LaunchPlan, unit: ModelUnit) -> bool:
    """Tell whether a layer's window ends before the sequence does, which SDPA needs a mask for."""
    shape = unit.layer
    if shape is None or shape.attention_kind != "sliding" or shape.sliding_window is None:
        return False
    is_flash = (plan.attention or "").startswith("flash")
    return shape.sliding_window < (plan.seq_len or 0) and not is_flash


def shared_forms(model: ModelSpec, method: str, checkpointed: bool) -> Mapping[str, Any] | None:
    """Return what is alive beside layers, parameters and gradients, by point of the step."""
    costs = family_costs(model.model_type)
    if costs is None:
        return None
    found: Mapping[str, Any] | None = costs["shared"].get(
        method + (CHECKPOINTED if checkpointed else "")
    )
    return found


def reference_of(
    plan: LaunchPlan, model: ModelSpec, method: str, has_scores: bool
) -> tuple[LaunchPlan, ModelSpec]:
    """Return the plan and model that a method's forms were derived for, in this plan's sizes."""
    adapter = METHODS[method].get("adapter")
    if adapter is not None and plan.adapter is not None:
        adapter = replace(adapter, rank=plan.adapter.rank)
    reference = replace(
        plan,
        adapter=adapter,
        attention=plan.attention if has_scores else "sdpa",
        load_dtype="bf16",
        master_dtype=None,
        mixed_precision="no",
        base_quantization=None,
        engine="single",
        sequence_kind="fixed",
    )
    costs = family_costs(model.model_type) or {}
    facts = {**model.facts, **costs.get("facts", {})}
    return reference, replace(model, facts=facts, dropouts={})
