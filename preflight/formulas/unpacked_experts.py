"""Stacked experts in 4 bits: packed between their uses, and whole in 16 bits while their layer needs them.

axolotl's `quantize_moe_experts` makes every stack a parametrization of bitsandbytes' (monkeypatch/moe_quant.py, 0.15.0
to 0.19.0). A stack is unpacked without a graph when it is read, and kept to the end of the module's forward
(nn/parametrize.py, 0.49.1 to 0.50.2); its product keeps it for backward. What else a layer takes is as with experts that
are frozen in 16 bits.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from preflight.formulas.linear_experts import summed
from preflight.formulas.precision import STACKED
from preflight.launch import LaunchPlan
from preflight.model import EXPERTS, ModelUnit, ParameterTensor

UNPACKED_BYTES = 2
ROWS, INNER = "T*k", "T*kM"
"""Sizes that a layer has from its experts' first product on, and between both products."""


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
        inner = form.get(INNER, 0) + before.get(INNER, 0)
        of_product = UNPACKED_BYTES if has_graph else 0
        return first if inner > kept.get(INNER, 0) + of_product else both

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
    if checkpointed:
        return dict(forms)
    both = _copies(filter(is_stack, unit.tensors))
    found = {**forms, "first": summed(forms["first"], both)}
    own = {"saved": {}, "forward": [], "backward": forms.get("first_backward", [])}
    if own["backward"]:
        found["first_backward"] = with_unpacked(own, kept, unit, False)["backward"]
    adding = forms.get("adding", {})
    if adding.get("first_backward"):
        own["backward"] = adding["first_backward"]
        found["adding"] = {
            **adding,
            "first_backward": with_unpacked(own, kept, unit, False)["backward"],
        }
    return found
