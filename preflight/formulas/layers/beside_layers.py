"""What is alive beside the layers of a model while it is trained: inputs, tables, masks, the last norm, by point of the step."""

from __future__ import annotations

from collections import Counter

from preflight.formulas.adapters.adapter_inputs import has_fp32_residual
from preflight.formulas.adapters.adapters import adapter_tensors
from preflight.formulas.adapters.dora import dora_backward_bytes, dora_passing_bytes
from preflight.formulas.adapters.other_adapters import passing_of_layer
from preflight.formulas.cost_tables import has_window_mask, kind_of, method_of, versions_of_forms
from preflight.formulas.layers.adapter_shares import sizes_in_forms
from preflight.formulas.layers.attention_scores import at_scores, made_before_scores
from preflight.formulas.layers.attention_tensors import traced_eagerly
from preflight.formulas.layers.layer_coefficients import layer_forms, shared_forms
from preflight.formulas.layers.layer_costs import adding_points, highest_of, more_saved
from preflight.formulas.layers.layer_pieces import norm_bytes, norm_kind
from preflight.formulas.layers.layer_sizes import bytes_of
from preflight.formulas.objective import has_linear_head
from preflight.formulas.precision import Precision, gradient_element_bytes, uses_autocast
from preflight.formulas.sharding import held_tensors
from preflight.formulas.tensor_parallel import cuts_stream
from preflight.formulas.user_loop import has_one_gradient, loss_rule
from preflight.launch import LaunchPlan
from preflight.model import ModelSpec, ModelUnit
from preflight.remembered import remembered
from preflight.units import ceil_div
from preflight.values import replace


@remembered
def shared_bytes(plan: LaunchPlan, model: ModelSpec, precision: Precision) -> dict[str, int] | None:
    """Return what is alive beside layers, parameters and gradients, by point of the step; None without a trace."""
    method = method_of(plan, precision)
    is_checkpointed = plan.activation_checkpointing == "full"
    forms = shared_forms(plan, model, method, is_checkpointed)
    units = [unit for unit in model.layers if unit.layer is not None]
    if forms is None or not units:
        return None
    of_first = layer_forms(plan, model, units[0], method, is_checkpointed)
    if of_first is None:
        return None
    adds, again = has_one_gradient(plan), forms.get("adding", {})
    if adds:
        forms = {**forms, "first_backward": None, **again}
    if "first" not in forms:  # traced with no gradient that reached the lowest layer
        forms = {**forms, "first": forms["backward"]}
    sizes = sizes_in_forms(plan, model, units[-1], method)
    if not traced_eagerly(plan, model, precision) and not _has_masks(plan, units):
        sizes = {k: v for k, v in sizes.items() if k not in ("LL", "TL*1")}
    if not has_linear_head(plan):  # its weight is no linear layer's, which autocast would copy
        sizes = {**sizes, "hV": 0}
    found = {point: bytes_of(forms[point], sizes) for point in SHARED_POINTS}
    found["head"] = bytes_of(forms.get("head", forms["loss_backward"]), sizes)
    first = sizes_in_forms(plan, model, units[0], method)
    if adds:
        pairs = forms["first_backward"]
        highest = highest_of(
            [others for others, _ in pairs] if pairs else adding_points(of_first), first
        )
    else:
        highest = max(
            bytes_of(others, first) + bytes_of(gradients, first)
            for others, gradients in forms.get("first_backward", of_first["backward"])
        )
    found["first"] = bytes_of(forms["first"], first) + highest
    found["first"] += first["T*1"] * more_saved(plan, model, units[0], precision, method)
    if plan.attention == "eager" and not traced_eagerly(plan, model, precision):
        found["first"] = max(
            found["first"],
            bytes_of(forms["first"], first)
            + _at_first_scores(plan, model, units[0], precision, method),
        )
    passing = dora_passing_bytes(plan, model, units[0], precision, first["T*1"])
    whole = layer_forms(plan, model, units[0], method, False)
    if passing and is_checkpointed and whole is not None:
        saved = bytes_of(whole["saved"], first)
        saved += first["T*1"] * more_saved(plan, model, units[0], precision, method)
        found["first"] = max(found["first"], bytes_of(forms["first"], first) + saved + passing)
    wider = dora_backward_bytes(plan, model, units[0], precision)
    found["first"] += first["T*1"] * wider
    found["first"] += sum(passing_of_layer(plan, model, units[0], precision, first["T*1"]))
    untold = {"head", "embedding"}.difference(again)
    if adds and untold and plan.engine in ("single", "ddp"):
        made = _made_beside_layers(plan, model, precision)
        for point in untold:
            found[point] += made[point]
    for beside in (_of_saved_modules, _of_adapted_head):
        for point, num_bytes in beside(plan, model, precision).items():
            found[point] += first["T*1"] * num_bytes
    for point, num_bytes in _cast_head(plan, model, precision).items():
        found[point] += num_bytes
    return _divided_beside(plan, model, precision, found, first["T*1"])


def behind_bytes(plan: LaunchPlan, model: ModelSpec, unit: ModelUnit, precision: Precision) -> int:
    """Return what later layers of other kinds still hold when the backward of a kind's last layer begins."""
    is_checkpointed = plan.activation_checkpointing == "full"
    method = method_of(plan, precision)
    forms = shared_forms(plan, model, method, is_checkpointed)
    behind = (forms or {}).get("behind", {}).get(kind_of(unit), {})
    last = [unit for unit in model.layers if unit.layer is not None][-1]
    return bytes_of(behind, sizes_in_forms(plan, model, last, method))


def _made_beside_layers(plan: LaunchPlan, model: ModelSpec, precision: Precision) -> dict[str, int]:
    """Return the gradients of head and words in the backward that makes them, by point: not every table has them."""
    found = Counter[str]()
    for held in held_tensors(plan, model):
        if held.trains:
            num_bytes = gradient_element_bytes(plan, precision, held.tensor)
            found[held.unit.role] += held.count * num_bytes * held.tensor.num_params
    words = found["embedding"]
    return {"head": words if model.tied else found["lm_head"], "embedding": words}


def _cast_head(plan: LaunchPlan, model: ModelSpec, precision: Precision) -> dict[str, int]:
    """Return what autocast makes of a head in fp32 that is trained beside an adapter: its copy, and that one's gradient."""
    is_wide = precision.trainable == "fp32" and precision.compute != "fp32"
    if plan.adapter is None or not (is_wide and uses_autocast(plan) and has_linear_head(plan)):
        return {}
    if precision.frozen == "fp32":  # then traces have it cast as all weights are
        return {}
    cast = 2 * sum(
        tensor.num_params
        for unit, tensor in adapter_tensors(plan, model)
        if unit.role == "lm_head" and "lora_" not in tensor.name and len(tensor.shape) == 2
    )
    return dict.fromkeys(("loss", "loss_backward", "head"), cast) if cast else {}


def _of_saved_modules(plan: LaunchPlan, model: ModelSpec, precision: Precision) -> dict[str, int]:
    """Return the bytes per token that an embedding or a head trained beside an adapter adds, by point.

    The first norm then has an input that asks for a gradient, and the head keeps its own.
    """
    if plan.adapter is None or not plan.adapter.modules_to_save:
        return {}
    roles = {
        unit.role for unit, tensor in adapter_tensors(plan, model) if "lora_" not in tensor.name
    }
    found: dict[str, int] = {}
    c, h = precision.bytes_of("compute"), model.hidden_size
    if "embedding" in roles and plan.activation_checkpointing == "none":
        residual = 4 if has_fp32_residual(plan, model, precision) else c
        of_norm = norm_bytes(norm_kind(model), h, 1, c, residual, False)
        found = dict.fromkeys(
            ("forward", "loss", "loss_backward", "head", "backward", "first"), of_norm
        )
    if "lm_head" in roles:
        for point in ("loss_backward", "head"):
            found[point] = found.get(point, 0) + c * h
    return found


def _of_adapted_head(plan: LaunchPlan, model: ModelSpec, precision: Precision) -> dict[str, int]:
    """Return the bytes per token that LoRA on a head keeps: its input, or what dropout made of it with the mask.

    The logits that it adds are gone before the loss holds its own, so no point has them (peft/tuners/lora/layer.py
    Linear.forward, 0.21). Under autocast the input is there from the loss on, cast.
    """
    if plan.adapter is None or not any(
        unit.role == "lm_head" and "lora_" in tensor.name
        for unit, tensor in adapter_tensors(plan, model)
    ):
        return {}
    masked = 1 if plan.adapter.dropout else 0
    kept = (precision.bytes_of("compute") + masked) * model.hidden_size
    points = ("loss", "loss_backward", "head") if uses_autocast(plan) else ("loss_backward", "head")
    return dict.fromkeys(points, kept)


def _at_first_scores(
    plan: LaunchPlan, model: ModelSpec, unit: ModelUnit, precision: Precision, method: str
) -> int:
    """Return what the first layer's backward needs while its scores peak, beyond what was traced when it began."""
    whole = layer_forms(plan, model, unit, method, False)
    assert whole is not None
    sizes = sizes_in_forms(plan, model, unit, method)
    tokens, more = sizes["T*1"], more_saved(plan, model, unit, precision, method)
    point = at_scores(
        plan, model, unit, precision, bytes_of(whole["saved"], sizes) // tokens + more
    )
    made = 0 if has_one_gradient(plan) else made_before_scores(plan, unit, precision)
    kept = more if plan.activation_checkpointing == "none" else 0
    return tokens * (point.backward + kept) + made


def _divided_beside(
    plan: LaunchPlan, model: ModelSpec, precision: Precision, found: dict[str, int], tokens: int
) -> dict[str, int]:
    """Return what is alive beside the layers where the stream is cut; the head gathers its input, and keeps it."""
    if not cuts_stream(plan):
        return found
    degree = plan.tensor_parallel_degree
    whole = precision.bytes_of("compute") * model.hidden_size * tokens
    divided = {point: ceil_div(num_bytes, degree) for point, num_bytes in found.items()}
    for point in ("loss", "loss_backward", "head"):
        divided[point] += whole - whole // degree
    return divided


SHARED_POINTS = ("forward", "loss", "loss_backward", "backward", "embedding")


def more_logits(plan: LaunchPlan, model: ModelSpec, precision: Precision) -> dict[str, int]:
    """Return the bytes per logit beyond the usual, by point: of a family or a method that treats them its own way."""
    method = method_of(plan, precision)
    forms = shared_forms(plan, model, method, plan.activation_checkpointing == "full")
    if forms is None:
        return dict.fromkeys(("loss", "loss_backward", "head"), 0)
    size = precision.bytes_of("logits")
    # of the releases that the forms were traced in
    traced = versions_of_forms(plan, model, method)
    as_traced = replace(plan, trainer="transformers", versions=traced)
    rule = loss_rule(as_traced, model.model_type)
    usual = {
        "loss": (size + 8 if size == 2 and not rule.upcasts_in_model else 8)
        + 4 * rule.copies_shifted,
        "loss_backward": 12,
        "head": size,
    }
    # a frozen head's backward is no moment of its own
    seen = {"head": size, **forms["logits"]}
    return {point: seen[point] - usual[point] for point in usual}


def _has_masks(plan: LaunchPlan, units: list[ModelUnit]) -> bool:
    """Tell whether SDPA's masks are tensors: where some layers' window ends before the sequence does, as one that no table says."""
    windowed = [u for u in units if u.layer and u.layer.attention_kind == "sliding"]
    is_unsaid = any(u.layer and u.layer.sliding_window is None for u in windowed)
    return not windowed or is_unsaid or any(has_window_mask(plan, unit) for unit in windowed)
