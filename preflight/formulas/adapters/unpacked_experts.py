"""Copies of stacked experts that a layer has while they are at work: unpacked ones, and deltas of adapters.

axolotl's `quantize_moe_experts` makes every stack a parametrization of bitsandbytes' (monkeypatch/moe_quant.py, 0.15.0
to 0.19.0). A stack is unpacked without a graph when it is read, and kept to the end of the module's forward
(nn/parametrize.py, 0.49.1 to 0.50.2); its product keeps it for backward. What else a layer takes is as with experts that
are frozen in 16 bits.

PEFT before 0.21 makes the delta of an adapter on a stack whole, and keeps it while the module runs; no backward needs it.
A packed stack below an adapter is unpacked beside its delta and their sum, and gone when that is made: what stays is as of
one in 16 bits (tuners/lora/layer.py ParamWrapper, 0.19.1 and 0.20.0; what 0.21 does fails on one).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

from preflight.formulas.adapters.adapted_experts import adapted_stacks
from preflight.formulas.adapters.adapters import adapter_targets
from preflight.formulas.adapters.linear_experts import summed
from preflight.formulas.precision import STACKED, precision_of
from preflight.launch import LaunchPlan
from preflight.model import EXPERTS, ModelSpec, ModelUnit, ParameterTensor
from preflight.values import NamedTuple
from preflight.versions.peft import FOLDS_DELTAS

Points = list[list[dict[str, int]]]
"""Of a backward: what is alive, and the gradients that were made."""
UNPACKED_BYTES = 2
ROWS, INNER, GATHERED = "T*k", "T*kM", "T*kh"
"""Sizes that a layer has from its experts' first product on, between both products, and around both."""

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
    forms: Mapping[str, Any],
    kept: Mapping[str, int],
    stacks: Collection[ParameterTensor],
    checkpointed: bool,
) -> dict[str, Any]:
    """Return the forms of a layer with its unpacked experts, those that no adapter is on, where its products need them.

    `kept` is what the layer keeps without recomputation, to which points of a backward without it are relative.
    Where more lies between the products than what backward keeps and, with a graph, the second one's input, that one
    has not begun, or is behind on the way back.
    """
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
    forms: Mapping[str, Any],
    kept: Mapping[str, int],
    stacks: Collection[ParameterTensor],
    checkpointed: bool,
) -> dict[str, Any]:
    """Return what is alive beside layers, where the first layer's backward begins with its unpacked experts."""

    def unpacked(points: Points) -> Points:
        own = {"saved": {}, "forward": [], "backward": points}
        found: Points = with_unpacked(own, kept, stacks, checkpointed)["backward"]
        return found

    found = _in_first_backward(forms, unpacked)
    if not checkpointed:
        found["first"] = summed(forms["first"], _copies(stacks))
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


class Deltas(NamedTuple):
    """What a layer's adapted stacks take while their module runs, as forms."""

    whole: Mapping[str, int]
    """Deltas that PEFT makes whole."""
    second: Mapping[str, int]
    """The packed stack of the second product, unpacked until its sum is made; that of the first is so before its rows are."""

    def points(
        self, form: Mapping[str, int], kept: Mapping[str, int], has_graph: bool
    ) -> Iterator[dict[str, int]]:
        """Yield a point where experts run, and one before it: the second product's stack is read, and its rows are not made."""
        yield summed(form, self.whole)
        if self.second and _has_second(form, kept, has_graph):
            rows = kept.get(GATHERED, 0) if has_graph else UNPACKED_BYTES
            before = {**form, GATHERED: min(form.get(GATHERED, 0), rows)}
            yield summed(before, self.whole, self.second)


def stacks_of(
    plan: LaunchPlan, model: ModelSpec, unit: ModelUnit
) -> tuple[list[ParameterTensor], list[ParameterTensor]]:
    """Return a layer's stacks that no adapter is on, and those that one is on."""
    targets = adapter_targets(plan.adapter, model) if plan.adapter is not None else ()
    adapted = adapted_stacks(plan, model, targets)
    found: tuple[list[ParameterTensor], list[ParameterTensor]] = ([], [])
    for stack in filter(is_stack, unit.tensors):
        found[stack.name.rpartition(".")[2] in adapted].append(stack)
    return found


def deltas_of(plan: LaunchPlan, model: ModelSpec, unit: ModelUnit) -> Deltas | None:
    """Return what PEFT makes whole of a layer's adapted stacks; None where it makes nothing."""
    if plan.adapter is None or FOLDS_DELTAS.holds_in(plan.versions):
        return None
    _, adapted = stacks_of(plan, model, unit)
    if not adapted:
        return None
    size = precision_of(plan, model).bytes_of("frozen")
    whole = {f"w:{stack.name}": size for stack in adapted}
    return Deltas(whole, _copies(filter(_is_second, adapted)) if packs_experts(plan) else {})


def with_deltas(
    forms: Mapping[str, Any], kept: Mapping[str, int], deltas: Deltas, checkpointed: bool
) -> dict[str, Any]:
    """Return the forms of a layer with deltas of its adapted stacks while its experts run, and run again."""

    def running(form: Mapping[str, int]) -> Iterable[dict[str, int]]:
        has_gradients = any(form.get(name, 0) > kept.get(name, 0) for name in deltas.whole)
        is_running = form.get(ROWS, 0) and _has_second(form, kept, True) and not has_gradients
        return deltas.points(form, kept, True) if is_running else (dict(form),)

    def forward(form: Mapping[str, int]) -> Iterable[dict[str, int]]:
        is_running = form.get(ROWS, 0)
        return deltas.points(form, kept, not checkpointed) if is_running else (dict(form),)

    result = {**forms, "forward": [each for one in forms["forward"] for each in forward(one)]}
    if checkpointed:
        result["backward"] = [
            [each, made] for one, made in forms["backward"] for each in running(one)
        ]
        if "adding" in forms:
            result["adding"] = [each for one in forms["adding"] for each in running(one)]
    return result


def shared_with_deltas(
    forms: Mapping[str, Any], kept: Mapping[str, int], deltas: Deltas, checkpointed: bool
) -> dict[str, Any]:
    """Return what is alive beside layers, where the first layer's experts run again with their deltas."""

    def again(points: Points) -> Points:
        own = {"forward": [], "backward": points}
        found: Points = with_deltas(own, kept, deltas, checkpointed)["backward"]
        return found

    return _in_first_backward(forms, again)
