"""Where the adapters of traced layers are, and which of them is nearest to a plan's: sets of targets, dropout, DoRA.

What a layer keeps and needs in passing depends on where its adapters are: one that is not adapted keeps no input
of a projection and frees more before it needs most. So families are traced with adapters on several sets of
targets, and a plan takes the coefficients of the set that is nearest to its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from preflight.formulas.adapters.adapters import (
    PEFT_DEFAULT_TARGETS,
    adapter_tensors,
    each_adapter_tensor,
    peft_model_type,
)
from preflight.formulas.adapters.linear_experts import FACT
from preflight.launch import Adapter, LaunchPlan
from preflight.model import LINEAR, ModelSpec, ModelUnit, ParameterTensor
from preflight.remembered import remembered
from preflight.values import dataclass, replace

ALL_LINEAR, ATTENTION, QUERY_VALUE, MLP, BARE = (
    "all-linear",
    "attention",
    "query_value",
    "mlp",
    "bare",
)


@dataclass(frozen=True)
class Adaptation:
    """One way of adapting layers that families were traced with."""

    folder: str
    """Where its files are, beside those of full training; empty where they are in the same ones."""
    targets: str = ALL_LINEAR
    """all-linear; attention, every projection of it; query_value, or what PEFT adapts by default; mlp; bare, none of a
    layer's, which gradients pass through."""
    dropout: bool = False
    kind: str = "lora"


USUAL = Adaptation("")
ADAPTATIONS = (
    USUAL,
    Adaptation("attention", ATTENTION),
    Adaptation("query_value", QUERY_VALUE),
    Adaptation("mlp", MLP),
    Adaptation("bare", BARE),
    Adaptation("dropout", dropout=True),
    Adaptation("attention_dropout", ATTENTION, dropout=True),
    Adaptation("query_value_dropout", QUERY_VALUE, dropout=True),
    Adaptation("dora", kind="dora"),
    Adaptation("attention_dora", ATTENTION, kind="dora"),
)
"""In the order in which one is taken of several that are equally near."""

ATTENTION_ALONE = frozenset({"phimoe", "llama4_text"})
"""Types whose usual traces have adapters on attention alone: PEFT 0.21.2 fails on routers that are linear layers
and return a tuple."""
NO_OUT_PROJ = frozenset({"falcon_h1", "mamba", "mamba2", "falcon_mamba", "nemotron_h"})
"""Types whose `out_proj` PEFT refuses (peft/tuners/tuners_utils.py:152, 0.21.2): all other linear layers are adapted."""
NO_ALL_LINEAR = ATTENTION_ALONE | NO_OUT_PROJ


ROUTERS = ("router", "gate")
"""What a router that is a subclass of a linear layer is called; Falcon's projections are of one too."""


def adapter_of(adaptation: Adaptation, adapter: Adapter, model: ModelSpec) -> Adapter | None:
    """Return an adapter as an adaptation has it, in its rank and dtype; None where a model has no such targets."""
    targets = targets_of(adaptation, model)
    if not targets:
        return None
    dropout = (adapter.dropout or 0.1) if adaptation.dropout else 0.0
    return replace(
        adapter, kind=adaptation.kind, targets=targets, dropout=dropout, modules_to_save=None
    )


def targets_of(adaptation: Adaptation, model: ModelSpec) -> tuple[str, ...] | str | None:
    """Return the target modules of an adaptation in one model; None where it would be another one there."""
    of_attention, others = _projections(model)
    is_usual = model.model_type in ATTENTION_ALONE
    if adaptation.targets == ALL_LINEAR and model.model_type in NO_OUT_PROJ:
        return tuple(n for n in (*of_attention, *others) if not n.endswith("out_proj"))
    if adaptation.targets == ALL_LINEAR:
        return of_attention if is_usual else ALL_LINEAR
    if adaptation.targets == BARE:
        return _words_alone(model)
    if adaptation.targets == MLP:
        return others or None
    if adaptation.targets == ATTENTION:
        return None if is_usual else of_attention or None
    default = PEFT_DEFAULT_TARGETS.get(peft_model_type(model), ("q_proj", "v_proj"))
    reached = [n for n in of_attention if n.rpartition(".")[2] in default]
    return default if 0 < len(reached) < len(of_attention) else None


def _words_alone(model: ModelSpec) -> tuple[str, ...] | None:
    """Return the embedding of a model whose layers have linear layers of different names; None of any other."""
    names = {frozenset(t.name for t in u.tensors if t.kind == LINEAR) for u in model.layers}
    words = [unit.name.rpartition(".")[2] for unit in model.units if unit.role == "embedding"]
    return tuple(words[:1]) or None if len(names) > 1 else None


def _projections(model: ModelSpec) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the linear layers of attention and the others, by the last two parts of their names."""
    of_attention: dict[str, None] = {}
    others: dict[str, None] = {}
    for unit in model.layers:
        for tensor in unit.tensors:
            is_router = tensor.is_of_subclass and tensor.module in ROUTERS
            if tensor.kind == LINEAR and len(tensor.shape) == 2 and not is_router:
                path = tensor.name.removesuffix(".weight")
                is_of_attention = "att" in path.partition(".")[0] or "Attention." in path
                found = of_attention if is_of_attention else others
                found[".".join(path.split(".")[-2:])] = None
    return tuple(of_attention), tuple(others)


ANYWHERE = ""
STACK = ".experts."


def place_of(model: ModelSpec, unit: ModelUnit) -> str:
    """Return where the first layer of a unit is, in a model with several kinds of layers: an adapter may reach some
    of these alone (q_proj of a layer with attention, beside those that have a recurrent state)."""
    return str(unit.places[0]) if unit.places and len(model.layers) > 1 else ANYWHERE


@remembered
def nearest_adaptations(
    plan: LaunchPlan, model: ModelSpec, place: str = ANYWHERE
) -> tuple[Adaptation, ...]:
    """Return the ways of adapting that a plan's adapter may be counted as, nearest first, for all layers or those of
    a kind.

    What a set lacks counts double: too many adapters are priced too high, too few too low. A set without the stacks of
    experts that are adapted is never near: each token's row of every expert is kept for them.
    """
    adapter = plan.adapter
    if adapter is None:
        return (USUAL,)
    own = _params_by_module(adapter_tensors(plan, model), place)
    found: list[tuple[bool, bool, int, bool, int]] = []
    for order, adaptation in enumerate(ADAPTATIONS):
        usual = adapter_of(adaptation, adapter, model)
        if usual is None or (own and adaptation.targets == BARE):
            continue
        of_traced = each_adapter_tensor(as_traced(plan, usual, model), model)
        theirs = _params_by_module(of_traced, place)
        missing = sum(num for name, num in own.items() if name not in theirs)
        idle = sum(num for name, num in theirs.items() if name not in own)
        is_other = (adaptation.kind == "dora") != (adapter.kind == "dora")
        drops_other = adaptation.dropout != (adapter.dropout > 0)
        lacks_stack = any(STACK in name and name not in theirs for name in own)
        found.append((is_other, lacks_stack, 2 * missing + idle, drops_other, order))
    return tuple(ADAPTATIONS[order] for *_, order in sorted(found))


def as_traced(plan: LaunchPlan, adapter: Adapter, model: ModelSpec) -> LaunchPlan:
    """Return a plan with an adapter that reaches what it did when it was traced: with the PEFT of then.

    Experts that are linear layers were never traced; an adapter on them goes where the plan's own release puts it.
    """
    told: dict[str, Any] = {
        "objective": plan.objective,
        "trainer": plan.trainer,
        "vision": plan.vision,
    }
    if model.facts.get(FACT):
        told.update(launcher=plan.launcher, versions=plan.versions)
    return LaunchPlan(adapter=adapter, **told)


def _params_by_module(
    tensors: Iterable[tuple[ModelUnit, ParameterTensor]], place: str
) -> Mapping[str, int]:
    """Return the parameters of adapters in the layers, or those of a kind, by the name of what they are on."""
    found: dict[str, int] = {}
    for unit, tensor in tensors:
        name, is_adapter, _ = tensor.name.partition(".lora_")
        is_there = place in (ANYWHERE, *(str(number) for number in unit.places[:1]))
        if unit.role == "layer" and is_adapter and is_there:
            found[name] = found.get(name, 0) + unit.count * tensor.num_params
    return found
