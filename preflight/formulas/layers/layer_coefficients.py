"""A family's own coefficients: what its layers keep and need in passing, solved from traces (preflight/formulas/costs).

They hold for the methods of preflight/formulas/cost_tables.py; what a plan has that those have not (dropout, padding,
other targets, autocast) is added as the difference that the pieces of preflight/formulas/layers/layer_pieces.py make.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from preflight.formulas.adapters.adaptations import ANYWHERE, adapter_of, as_traced, place_of
from preflight.formulas.adapters.adapted_experts import ROUTER, adapted_stacks
from preflight.formulas.adapters.adapter_kinds import branch_rank
from preflight.formulas.adapters.adapters import adapter_targets
from preflight.formulas.adapters.linear_experts import FACT, looped, looped_shared
from preflight.formulas.adapters.unpacked_experts import (
    ROWS,
    deltas_of,
    packs_experts,
    shared_with_deltas,
    shared_with_unpacked,
    stacks_of,
    with_deltas,
    with_unpacked,
)
from preflight.formulas.cost_tables import (
    CHECKPOINTED,
    EAGER,
    FLASH,
    GROUPED_KEYS,
    METHODS,
    TRACED_WITH_ONE_KEY_HEAD,
    WINDOWED,
    adaptation_of,
    family_costs,
    file_of,
    forms_of_method,
    has_own_release,
    has_window_mask,
    is_of_table,
    is_windowed,
    kind_of,
    method_of,
    table_of,
    versions_of_forms,
)
from preflight.formulas.layers.attention import attention_of_class
from preflight.formulas.layers.both_stacks import untraced_of_stacks
from preflight.formulas.layers.heads import head_of_encoder
from preflight.formulas.precision import Precision, precision_of
from preflight.launch import LaunchPlan
from preflight.model import MASKED_LM, ModelSpec, ModelUnit
from preflight.remembered import remembered
from preflight.values import replace

SCORES = ("TL*nh", "YY*nh")
"""Of an encoder or a decoder alone, and of a decoder beside an encoder."""


def has_own_scores(forms: Mapping[str, Any] | None) -> bool:
    """Tell whether a layer's forms have the scores of its attention in what they keep."""
    saved = (forms or {}).get("saved", ())
    return any(name in saved for name in SCORES)


def layer_forms(
    plan: LaunchPlan, model: ModelSpec, unit: ModelUnit, method: str, checkpointed: bool
) -> Mapping[str, Any] | None:
    """Return the forms of a unit's layers: `saved`, `forward`, `backward`; None where nobody derived them.

    A window that no sequence leaves needs no mask: such a layer is like a full one.
    """
    file, place = file_of(plan, model), place_of(model, unit)
    adapted = table_of(plan, model, method, place)
    costs = family_costs(file, adapted)
    if costs is None or unit.layer is None:
        return None
    kinds = costs["kinds"]
    kind = kind_of(unit)
    first = kind.partition(",")[0]
    is_sliding = unit.layer.attention_kind == "sliding"
    if is_sliding and not has_window_mask(plan, unit) and f"{first}, full" in kinds:
        kind = f"{first}, full"
    alike = [] if unit.layer.kind else [name for name in kinds if name.startswith(first)]
    found = kind if kind in kinds else alike[0] if alike else None
    if found is None:
        return None
    forms = forms_of_method(file, adapted, found, method, checkpointed)
    if forms is None or not unit.layer.num_experts:
        return forms
    whole = forms_of_method(file, adapted, found, method, False)
    assert whole is not None
    deltas = deltas_of(plan, model, unit)
    if packs_experts(plan):
        plain, _ = stacks_of(plan, model, unit)
        forms = with_unpacked(forms, whole["saved"], plain, checkpointed)
    if deltas is not None:
        forms = with_deltas(forms, whole["saved"], deltas, checkpointed)
    if deltas is not None or packs_experts(plan):
        return forms
    if not model.facts.get(FACT) or has_own_release(plan, model, method, place):
        return forms
    packed = _packing(plan, method)
    precision = precision_of(plan, model)
    return looped(forms, whole, precision, packed, plan.adapter is None, checkpointed)


def has_rows(plan: LaunchPlan, model: ModelSpec) -> bool:
    """Tell whether sizes say at which points of a layer its experts are at work: in every layer that has some."""
    method = method_of(plan, precision_of(plan, model))
    of_experts = (u for u in model.layers if u.layer is not None and u.layer.num_experts)
    forms = [layer_forms(plan, model, unit, method, False) for unit in of_experts]
    return bool(forms) and all(form is not None and ROWS in form["saved"] for form in forms)


def _packing(plan: LaunchPlan, method: str) -> str | None:
    """Return how experts that are linear layers are packed: plain, prepared, or None."""
    if plan.base_quantization is None:
        return None
    return "prepared" if method.startswith("QLoRA, prepared") else "plain"


def shared_forms(
    plan: LaunchPlan, model: ModelSpec, method: str, checkpointed: bool
) -> Mapping[str, Any] | None:
    """Return what is alive beside layers, parameters and gradients, by point of the step."""
    head = head_of_encoder(plan, model)
    adapted = table_of(plan, model, method)
    if head not in (None, MASKED_LM):
        adapted = str(head)
    forms = forms_of_method(file_of(plan, model), adapted, None, method, checkpointed)
    first = model.layers[0].layer if model.layers else None
    if forms is None or first is None or not first.num_experts:
        return forms
    deltas = deltas_of(plan, model, model.layers[0])
    if deltas is not None or packs_experts(plan):
        whole = layer_forms(plan, model, model.layers[0], method, False)
        assert whole is not None
        if packs_experts(plan):
            plain, _ = stacks_of(plan, model, model.layers[0])
            forms = shared_with_unpacked(forms, whole["saved"], plain, checkpointed)
        if deltas is not None:
            forms = shared_with_deltas(forms, whole["saved"], deltas, checkpointed)
        return forms
    if not model.facts.get(FACT) or has_own_release(plan, model, method):
        return forms
    precision, packed = precision_of(plan, model), _packing(plan, method)
    return looped_shared(forms, precision, packed, plan.adapter is None, checkpointed)


def reference_of(
    plan: LaunchPlan, model: ModelSpec, method: str, has_scores: bool, place: str = ANYWHERE
) -> tuple[LaunchPlan, ModelSpec]:
    """Return the plan and model that a method's forms were derived for, in this plan's sizes."""
    traced, known = _traced_as(plan, model, method, has_scores, place)
    return replace(plan, **traced), known


@remembered
def _traced_as(
    plan: LaunchPlan, model: ModelSpec, method: str, has_scores: bool, place: str
) -> tuple[dict[str, Any], ModelSpec]:
    usual = METHODS[method]
    adapter = usual.get("adapter")
    if adapter is not None and plan.adapter is not None:
        plain = replace(adapter, rank=branch_rank(plan.adapter))
        adapter = adapter_of(adaptation_of(plan, model, method, place), plain, model) or plain
    is_of_flash = file_of(plan, model).endswith(FLASH)
    traced_attention = "flash_attention_2" if is_of_flash else "sdpa"
    traced = {
        "adapter": adapter,
        "attention": plan.attention if has_scores else traced_attention,
        "load_dtype": usual.get("load_dtype", "bf16"),
        "master_dtype": None,
        "mixed_precision": usual.get("mixed_precision", "no"),
        "base_quantization": usual.get("base_quantization"),
        "engine": "single",
        # an encoder with a decoder was traced with rows that are padded
        "sequence_kind": plan.sequence_kind if model.has_both_stacks else "fixed",
        "versions": versions_of_forms(plan, model, method, place),
    }
    costs = family_costs(file_of(plan, model)) or {}
    facts = {**model.facts, **costs.get("facts", {})}
    facts[GROUPED_KEYS] = model.model_type not in TRACED_WITH_ONE_KEY_HEAD
    # a type with a table was traced as its class drops out by default
    dropouts = model.dropouts if is_of_table(model) else {}
    return traced, replace(model, facts=facts, dropouts=dropouts)


def counts_idle_experts(plan: LaunchPlan, model: ModelSpec, precision: Precision) -> bool:
    """Tell whether a plan is counted as one whose adapters are on experts too, where its own leaves a stack
    of them alone."""
    if plan.adapter is None or not any(
        unit.layer and unit.layer.num_experts for unit in model.layers
    ):
        return False
    near = adaptation_of(plan, model, method_of(plan, precision))
    usual = adapter_of(near, plan.adapter, model)
    if usual is None:
        return False
    traced = as_traced(plan, usual, model)
    counted = adapted_stacks(traced, model, adapter_targets(usual, model))
    own = adapted_stacks(plan, model, adapter_targets(plan.adapter, model))
    return bool(counted - own - {ROUTER}) or bool(counted and not own)


def not_derived(plan: LaunchPlan, model: ModelSpec, precision: Precision) -> str:
    """Return what of a plan was never traced with a model that has nothing but traces; empty where all was."""
    layers = [unit for unit in model.layers if unit.layer is not None]
    if not is_of_table(model) or not layers:
        return ""
    method = method_of(plan, precision)
    head = head_of_encoder(plan, model)
    for is_checkpointed in sorted({False, plan.activation_checkpointing != "none"}):
        said = f"{method + CHECKPOINTED * is_checkpointed!r}"
        if any(layer_forms(plan, model, unit, method, is_checkpointed) is None for unit in layers):
            return said
        if shared_forms(plan, model, method, is_checkpointed) is None:
            return f"{said} of {head}"
    traced = attention_of_class(model, {})
    asked = plan.attention or traced
    if asked == "eager" and file_of(plan, model).endswith(EAGER):
        asked = traced
    if asked != traced and not (traced == "sdpa" and asked.startswith("flash")):
        return f"{asked} attention"
    has_mask = any(has_window_mask(plan, u) for u in layers)
    was_windowed = is_windowed(model) or file_of(plan, model).endswith(WINDOWED)
    if model.has_both_stacks and (of_stacks := untraced_of_stacks(plan, model)):
        return of_stacks
    if has_mask and not was_windowed and asked == "sdpa":
        return "a window shorter than the sequence"
    if was_windowed and not has_mask:
        return "a window that no sequence leaves"
    if plan.torch_compile:
        return "compiled layers"
    return ", ".join(model.facts.get("unlike_traced", ()))
