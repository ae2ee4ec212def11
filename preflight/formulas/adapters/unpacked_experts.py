"""Copies of stacked experts that a layer has while they are at work: unpacked ones, and deltas of adapters.

axolotl's `quantize_moe_experts` makes every stack a parametrization of bitsandbytes' (monkeypatch/moe_quant.py, 0.15.0
to 0.19.0). A stack is unpacked without a graph when it is read, and kept to the end of the module's forward
(nn/parametrize.py, 0.49.1 to 0.50.2); its product keeps it for backward. What else a layer takes is as with experts that
are frozen in 16 bits.

PEFT before 0.21 makes the delta of an adapter on a stack whole, and keeps it while the module runs; no backward needs it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from preflight.formulas.adapters.adapted_experts import adapted_stacks
from preflight.formulas.adapters.adapters import adapter_targets
from preflight.formulas.adapters.linear_experts import summed
from preflight.formulas.precision import STACKED, precision_of
from preflight.launch import LaunchPlan
from preflight.model import EXPERTS, ModelSpec, ModelUnit, ParameterTensor
from preflight.versions.peft import FOLDS_DELTAS

Points = list[list[dict[str, int]]]
"""Of a backward: what is alive, and the gradients that were made."""
UNPACKED_BYTES = 2
ROWS, INNER = "T*k", "T*kM"
"""Sizes that a layer has from its experts' first product on, and between both products."""

KEEPS_BEHIND_EXPERTS = frozenset(
    {
        "deepseek_v2", "deepseek_v3", "glm4_moe", "glm4_moe_lite", "qwen2_moe", "qwen3_5_moe_text", "qwen3_next",
    }
)  # fmt: skip
"""Types whose layers keep something behind their experts, a shared one's product: a checkpoint that stops where the last
tensor that it needs is made again runs their experts to the end; a test runs each."""


def packs_experts(plan: LaunchPlan) -> bool:
    """Tell whether a plan's stacked experts are packed."""
    return plan.base_quantization is not None and plan.base_quantization.experts


def is_stack(tensor: ParameterTensor) -> bool:
    """Tell a stack of experts from other tensors."""
    return tensor.kind == EXPERTS and len(tensor.shape) == STACKED


def _copies(stacks: Iterable[ParameterTensor]) -> dict[str, int]:
    return {f"w:{stack.name}": UNPACKED_BYTES for stack in stacks}


def _is_second(stack: ParameterTensor) -> bool:
    """Tell whether a stack is that of the second product."""
    return "down" in stack.name.rpartition(".")[2]


def _has_second(form: Mapping[str, int], kept: Mapping[str, int], has_graph: bool) -> bool:
    """Tell whether the second product has begun and is not behind at a point of a layer."""
    of_product = UNPACKED_BYTES if has_graph else 0
    return form.get(INNER, 0) <= kept.get(INNER, 0) + of_product


def with_unpacked(
    forms: Mapping[str, Any], kept: Mapping[str, int], unit: ModelUnit, checkpointed: bool
) -> dict[str, Any]:
    """Return the forms of a layer with its unpacked experts where its products need them.

    `kept` is what the layer keeps without recomputation, to which points of a backward without it are relative.
    Where more lies between the products than what backward keeps and, with a graph, the second one's input, that one
    has not begun, or is behind on the way back.
    """
    stacks = [tensor for tensor in unit.tensors if is_stack(tensor)]
    both, first = _copies(stacks), _copies(s for s in stacks if not _is_second(s))
    before = {} if checkpointed else kept
    is_kept = {} if checkpointed else both
    freed = {name: -count for name, count in is_kept.items()}

    def there(
        form: Mapping[str, int], before: Mapping[str, int], has_graph: bool
    ) -> dict[str, int]:
        if not form.get(ROWS, 0) + before.get(ROWS, 0):
            return {}
        return both if _has_second(summed(form, before), kept, has_graph) else first

    def backward(form: Mapping[str, int]) -> dict[str, int]:
        return summed(form, there(form, before, True), freed)

    result = {
        **forms,
        "saved": summed(forms["saved"], is_kept),
        "forward": [summed(one, there(one, {}, not checkpointed)) for one in forms["forward"]],
        "backward": [[backward(one), made] for one, made in forms["backward"]],
    }
    if "adding" in forms:
        result["adding"] = [backward(one) for one in forms["adding"]]
    return result


def shared_with_unpacked(
    forms: Mapping[str, Any], kept: Mapping[str, int], unit: ModelUnit, checkpointed: bool
) -> dict[str, Any]:
    """Return what is alive beside layers, where the first layer's backward begins with its unpacked experts."""

    def unpacked(points: Points) -> Points:
        own = {"saved": {}, "forward": [], "backward": points}
        found: Points = with_unpacked(own, kept, unit, checkpointed)["backward"]
        return found

    found = _in_first_backward(forms, unpacked)
    if not checkpointed:
        found["first"] = summed(forms["first"], _copies(filter(is_stack, unit.tensors)))
    return found


def _in_first_backward(
    forms: Mapping[str, Any], change: Callable[[Points], Points]
) -> dict[str, Any]:
    """Return what is alive beside layers, with a change to the first layer's backward where it has points of its own."""
    found = {**forms}
    adding = forms.get("adding", {})
    if forms.get("first_backward"):
        found["first_backward"] = change(forms["first_backward"])
    if adding.get("first_backward"):
        found["adding"] = {**adding, "first_backward": change(adding["first_backward"])}
    return found


def whole_deltas(plan: LaunchPlan, model: ModelSpec, unit: ModelUnit) -> dict[str, int]:
    """Return the deltas that PEFT makes whole of a layer's adapted stacks, as a form."""
    adapter = plan.adapter
    if adapter is None or FOLDS_DELTAS.holds_in(plan.versions):
        return {}
    adapted = adapted_stacks(plan, model, adapter_targets(adapter, model))
    size = precision_of(plan, model).bytes_of("frozen")
    stacks = (tensor for tensor in unit.tensors if is_stack(tensor))
    return {f"w:{t.name}": size for t in stacks if t.name.rpartition(".")[2] in adapted}


def with_deltas(
    forms: Mapping[str, Any], kept: Mapping[str, int], deltas: Mapping[str, int], checkpointed: bool
) -> dict[str, Any]:
    """Return the forms of a layer with deltas of its adapted stacks while its experts run, and run again."""

    def running(form: Mapping[str, int]) -> dict[str, int]:
        is_running = form.get(ROWS, 0) and _has_second(form, kept, True)
        return summed(form, deltas) if is_running else dict(form)

    result = {
        **forms,
        "forward": [summed(o, deltas) if o.get(ROWS) else o for o in forms["forward"]],
    }
    if checkpointed:
        result["backward"] = [[running(one), made] for one, made in forms["backward"]]
        if "adding" in forms:
            result["adding"] = [running(one) for one in forms["adding"]]
    return result


def shared_with_deltas(
    forms: Mapping[str, Any], kept: Mapping[str, int], deltas: Mapping[str, int], checkpointed: bool
) -> dict[str, Any]:
    """Return what is alive beside layers, where the first layer's experts run again with their deltas."""

    def again(points: Points) -> Points:
        own = {"forward": [], "backward": points}
        found: Points = with_deltas(own, kept, deltas, checkpointed)["backward"]
        return found

    return _in_first_backward(forms, again)
