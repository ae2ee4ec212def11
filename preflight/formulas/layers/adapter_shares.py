"""What the adapters of traced layers stand for in a plan that adapts others: shares of tensors of their size.

A form counts a tensor by the first name of its size: `2 w:mlp.gate_proj.weight.lora_B` of each of three is `6` of one.
A plan whose adapters are elsewhere has as much of that as it has parameters of this size.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from preflight.formulas.adapters.adaptations import adapter_of, as_traced, place_of
from preflight.formulas.adapters.adapter_kinds import BRANCHES
from preflight.formulas.adapters.adapters import adapter_tensors, each_adapter_tensor
from preflight.formulas.cost_tables import adaptation_of
from preflight.formulas.layers.layer_sizes import layer_sizes
from preflight.launch import LaunchPlan
from preflight.model import ModelSpec, ModelUnit, ParameterTensor
from preflight.remembered import remembered
from preflight.units import ceil_div

IS_ADAPTER = ".lora_"


@remembered
def sizes_in_forms(
    plan: LaunchPlan, model: ModelSpec, unit: ModelUnit, method: str
) -> Mapping[str, int]:
    """Return every named size of a layer for the forms of a method: adapters' as shares where those of the traced layer
    are on other modules than the plan's."""
    sizes = layer_sizes(plan, model, unit)
    if plan.adapter is None or plan.adapter.kind not in BRANCHES:
        return sizes
    adaptation = adaptation_of(plan, model, method, place_of(model, unit))
    traced = adapter_of(adaptation, plan.adapter, model)
    if traced is None:
        return sizes
    theirs = _of_unit(each_adapter_tensor(as_traced(plan, traced, model), model), unit)
    own = _of_unit(adapter_tensors(plan, model), unit)
    if not theirs or own.keys() == theirs.keys():
        return sizes
    return {**sizes, **{f"w:{name}": num for name, num in _shares(own, theirs).items()}}


def _of_unit(
    tensors: Iterable[tuple[ModelUnit, ParameterTensor]], unit: ModelUnit
) -> dict[str, int]:
    return {
        tensor.name: tensor.num_params
        for owner, tensor in tensors
        if owner is unit and IS_ADAPTER in tensor.name
    }


def _shares(own: Mapping[str, int], theirs: Mapping[str, int]) -> dict[str, int]:
    """Return for every traced tensor its share of the plan's parameters in tensors of its size.

    Those of a size that no traced tensor has are spread over all, so that the shares add up to the plan's.
    """
    num_theirs = Counter(theirs.values())
    of_size: Counter[int] = Counter()
    for num_params in own.values():
        of_size[num_params] += num_params
    total = sum(own.values())
    covered = sum(num for size, num in of_size.items() if size in num_theirs)
    if not covered:
        whole = sum(theirs.values())
        return {name: ceil_div(size * total, whole) for name, size in theirs.items()}
    return {
        name: ceil_div(of_size[size] * total, num_theirs[size] * covered)
        for name, size in theirs.items()
    }
