"""Which table a plan's layers are in: of a family, a way of adapting, a release, and a method (preflight/formulas/costs).

`python -m preflight.derive costs` writes them from the installed transformers.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from preflight.formulas.adapters.adaptations import (
    ALL_LINEAR,
    ANYWHERE,
    USUAL,
    Adaptation,
    nearest_adaptations,
)
from preflight.formulas.adapters.linear_experts import FACT
from preflight.formulas.layers.attention import default_attention
from preflight.formulas.layers.kernels import asks_liger
from preflight.formulas.precision import Precision, uses_autocast
from preflight.formulas.releases import Release, releases_of
from preflight.formulas.tower_sizes import attended_rows
from preflight.launch import Adapter, BaseQuantization, LaunchPlan
from preflight.model import ModelSpec, ModelUnit
from preflight.own_tables import table_in
from preflight.remembered import remembered
from preflight.versions.transformers import T5_HAS_SDPA

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "costs")
NARROW, WIDE = (Adapter("lora", 8, 16, 0.0, "all-linear", dtype) for dtype in ("bf16", "fp32"))
PACKED, PREPARED = (BaseQuantization("nf4", True, "bf16", None, up) for up in ("none", "all"))
METHODS: dict[str, dict[str, Any]] = {
    "full": {},
    "full, bf16 under autocast": {"mixed_precision": "bf16"},
    "full, autocast": {"load_dtype": "fp32", "mixed_precision": "bf16"},
    "full, fp32": {"load_dtype": "fp32"},
    "LoRA": {"adapter": NARROW},
    "LoRA, bf16 under autocast": {"adapter": NARROW, "mixed_precision": "bf16"},
    "LoRA, fp32 adapters": {"adapter": WIDE},
    "LoRA, autocast": {"adapter": WIDE, "mixed_precision": "bf16"},
    "LoRA, fp32": {"adapter": WIDE, "load_dtype": "fp32"},
    "LoRA, fp32 under autocast": {"adapter": WIDE, "load_dtype": "fp32", "mixed_precision": "bf16"},
    "QLoRA": {"adapter": NARROW, "base_quantization": PACKED},
    "QLoRA, bf16 under autocast": {
        "adapter": NARROW, "base_quantization": PACKED, "mixed_precision": "bf16",
    },
    "QLoRA, fp32 adapters": {"adapter": WIDE, "base_quantization": PACKED},
    "QLoRA, autocast": {"adapter": WIDE, "base_quantization": PACKED, "mixed_precision": "bf16"},
    "QLoRA, prepared": {"adapter": WIDE, "base_quantization": PREPARED},
    "QLoRA, prepared, autocast": {
        "adapter": WIDE, "base_quantization": PREPARED, "mixed_precision": "bf16",
    },
}  # fmt: skip
"""What trains and in which dtypes, on one device, where a plan says nothing else on a base in bf16.

Under autocast 16-bit weights are what FSDP1 computes with too. `prepared` is PEFT's
prepare_model_for_kbit_training.
"""
CHECKPOINTED = ", checkpointed"
FLASH, EAGER, DROPOUT, LIGER = "_flash", "_eager", "_dropout", "_liger"
IN_FLOAT = "_float"
"""T5's releases before it had SDPA, whose softmax is in fp32."""
WINDOWED = "_windowed"
SEEING = "_seeing"
"""Llama 3.2 Vision's decoder where there are images, which layers of their own attend to."""
TRACED_WITH_ONE_KEY_HEAD = frozenset({"falcon", "gpt_bigcode"})
GROUPED_KEYS = "grouped_keys"
"""Fact of the model that forms were solved from: its keys have several heads, whatever those of a plan's model."""


def family_costs(model_type: str, adapted: str = "") -> Mapping[str, Any] | None:
    """Return the file of a family, for one way of adapting it by its folder; None where it was not derived."""
    return costs_in(model_type, adapted)


@lru_cache(maxsize=32)
def costs_in(model_type: str, adapted: str) -> Mapping[str, Any] | None:
    return table_in(os.path.join(FOLDER, adapted), model_type)


def file_of(plan: LaunchPlan, model: ModelSpec) -> str:
    """Return the name of the file that a model's costs are in under a plan's attention.

    Families that run eagerly by themselves have a second one, without scores, for flash attention
    and for the versions of transformers that gave them SDPA. GPT-2 has one for eager attention, whose softmax is
    in the dtype of its scores, OPT one with dropout, which its class has by default, and families that Liger has
    modules for one with them. A type that a table lays out has one for each of its variants, and for those whose
    window ends before the sequence.
    """
    name = str(model.facts.get("costs", model.model_type))
    attention = plan.attention or "sdpa"
    if attention == "sdpa":
        attention = default_attention(model.model_type, plan.versions)
    is_of_t5 = model.has_both_stacks and family_costs(f"{name}{IN_FLOAT}{EAGER}") is not None
    if is_of_t5 and not T5_HAS_SDPA.holds_in(plan.versions):
        name = f"{name}{IN_FLOAT}"
    if attention == "eager" and family_costs(f"{name}{EAGER}"):
        return f"{name}{EAGER}"
    if "dropout" in model.dropouts and family_costs(f"{name}{DROPOUT}"):
        return f"{name}{DROPOUT}"
    if is_of_table(model) and any(has_window_mask(plan, unit) for unit in model.layers):
        return f"{name}{WINDOWED}" if family_costs(f"{name}{WINDOWED}") else name
    if attended_rows(plan, model):
        return f"{name}{SEEING}"
    has_second = attention != "eager" and default_attention(name, {}) == "eager"
    if has_second and family_costs(f"{name}{FLASH}"):
        return f"{name}{FLASH}"
    return f"{name}{LIGER}" if asks_liger(plan) and family_costs(f"{name}{LIGER}") else name


def has_kernels(plan: LaunchPlan, model: ModelSpec) -> bool:
    """Tell whether the kernels that a plan asks for, if any, are those that its family's costs were traced with."""
    return not plan.kernels or (file_of(plan, model).endswith(LIGER) and not plan.torch_compile)


@remembered
def adaptation_of(
    plan: LaunchPlan, model: ModelSpec, method: str, place: str = ANYWHERE
) -> Adaptation:
    """Return the way of adapting that is nearest to a plan's among those that its family was traced with: for all
    layers, or those of the kind at a place."""
    if plan.adapter is None:
        return USUAL
    file = file_of(plan, model)
    near = (
        adaptation
        for adaptation in nearest_adaptations(plan, model, place)
        if forms_of_method(file, adaptation.folder, None, method, False) is not None
    )

    def is_own(adaptation: Adaptation) -> bool:
        return _in_release(plan, file, adaptation.folder, method) != adaptation.folder

    if model.facts.get(FACT):  # a loop is made of the newest's, but those have adapters on stacks
        return next((one for one in near if is_own(one) or one.targets != ALL_LINEAR), USUAL)
    if not releases_of(plan.versions):
        return next(near, USUAL)
    # where layers of this release are others, their tables are nearer than any of the newest's
    found = [*near]
    return next(filter(is_own, found), found[0] if found else USUAL)


@remembered
def table_of(plan: LaunchPlan, model: ModelSpec, method: str, place: str = ANYWHERE) -> str:
    """Return the folder of the table that a plan's layers are in: of its way of adapting, and of its release if that
    has one with the plan's method."""
    adapted = adaptation_of(plan, model, method, place).folder
    return _in_release(plan, file_of(plan, model), adapted, method)


def _in_release(plan: LaunchPlan, file: str, adapted: str, method: str) -> str:
    for release in releases_of(plan.versions):
        own = os.path.join(release.folder, adapted)
        if method in (family_costs(file, own) or {"shared": ()})["shared"]:
            return own
    return adapted


def kind_of(unit: ModelUnit) -> str:
    """Return the name of a unit's kind in the file: `dense, sliding`."""
    assert unit.layer is not None
    if unit.layer.kind:
        return unit.layer.kind
    return f"{'experts' if unit.layer.num_experts else 'dense'}, {unit.layer.attention_kind}"


def method_of(plan: LaunchPlan, precision: Precision) -> str:
    """Return the method that a plan is nearest to."""
    under = uses_autocast(plan)
    is_wide_base = precision.frozen == "fp32" and (not plan.is_fsdp or precision.compute == "fp32")
    # FSDP1 trains full weights in 16 bits, but PEFT casts to what a sharded adapter's dtype says
    is_narrow = plan.engine == "fsdp2" or (plan.is_fsdp and plan.adapter is None)
    is_wide = precision.trainable == "fp32" and not is_narrow
    if plan.adapter is None:
        if precision.compute == "fp32":
            return "full, fp32"
        wide, narrow = ("full, autocast", "full, bf16 under autocast") if under else ("full",) * 2
        return wide if is_wide else narrow
    quantization = plan.base_quantization
    if quantization is not None and quantization.scheme != "int8":
        upcast = quantization.upcast_unquantized_to_fp32
        is_wide_base = is_wide_base or (upcast in ("norms", "all") and not plan.is_fsdp)
        if is_wide_base:
            return "QLoRA, prepared, autocast" if under else "QLoRA, prepared"
        return _adapted("QLoRA", is_wide, under)
    if is_wide_base:
        return "LoRA, fp32 under autocast" if under else "LoRA, fp32"
    return _adapted("LoRA", is_wide, under)


def _adapted(kind: str, is_wide: bool, under_autocast: bool) -> str:
    if under_autocast:
        return f"{kind}, autocast" if is_wide else f"{kind}, bf16 under autocast"
    return f"{kind}, fp32 adapters" if is_wide else kind


@lru_cache(maxsize=256)
def forms_of_method(
    file: str, adapted: str, kind: str | None, method: str, checkpointed: bool
) -> Mapping[str, Any] | None:
    """Return the forms of one method, of a kind of layer or of what is shared.

    A method that is like another has that one's name instead.
    """
    costs = family_costs(file, adapted)
    if costs is None:
        return None
    forms = costs["shared"] if kind is None else costs["kinds"][kind]
    found = forms.get(method + (CHECKPOINTED if checkpointed else ""))
    if isinstance(found, str):
        found = forms[found]
    if found is None:
        return None
    words = {point: in_words(value, costs["names"]) for point, value in found.items()}
    return _without_narrowed(words) if method.startswith("QLoRA, prepared") else words


def _without_narrowed(value: Any) -> Any:
    """Return forms without the biases that the first product of a packed layer makes narrow for good: such a
    parameter is counted as what it is from then on (frozen_element_bytes)."""
    if isinstance(value, list):
        return [_without_narrowed(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        name: _without_narrowed(item)
        for name, item in value.items()
        if not (isinstance(item, int) and item < 0 and name.startswith("w:") and _is_vector(name))
    }


def _is_vector(name: str) -> bool:
    return ".lora_" not in name and any(part in name for part in ("norm", "ln_", "bias"))


def in_words(value: Any, names: Sequence[str]) -> Any:
    """Return forms with the names that a file numbers: [place, count, place, count]."""
    if isinstance(value, dict):
        return {point: in_words(item, names) for point, item in value.items()}
    if isinstance(value, int):
        return value
    if not value or isinstance(value[0], int):  # one form
        return {names[place]: count for place, count in zip(value[::2], value[1::2], strict=True)}
    return [in_words(item, names) for item in value]


def has_window_mask(plan: LaunchPlan, unit: ModelUnit) -> bool:
    """Tell whether a layer's window ends before the sequence does, which SDPA needs a mask for."""
    shape = unit.layer
    if shape is None or shape.attention_kind != "sliding" or shape.sliding_window is None:
        return False
    is_flash = (plan.attention or "").startswith("flash")
    return shape.sliding_window < (plan.seq_len or 0) and not is_flash


def has_own_release(plan: LaunchPlan, model: ModelSpec, method: str, place: str = ANYWHERE) -> bool:
    """Tell whether a plan's layers are in a table of an older transformers, its own or one that is like it."""
    return _release_of_table(plan, model, method, place) is not None


def versions_of_forms(
    plan: LaunchPlan, model: ModelSpec, method: str, place: str = ANYWHERE
) -> dict[str, str]:
    """Return the release that a plan's forms were traced in; nothing where that is the newest."""
    release = _release_of_table(plan, model, method, place)
    return {"transformers": release.traced} if release else {}


def _release_of_table(
    plan: LaunchPlan, model: ModelSpec, method: str, place: str
) -> Release | None:
    folder = table_of(plan, model, method, place).split(os.sep)[0]
    return next((one for one in releases_of(plan.versions) if one.folder == folder), None)


def is_of_table(model: ModelSpec) -> bool:
    """Tell whether a table says a model's parameters, and traces alone what its layers take."""
    return model.facts.get("layout") == "table"


def is_windowed(model: ModelSpec) -> bool:
    """Tell whether a type was traced with sequences that are longer than its window."""
    return bool(model.facts.get("windowed"))
