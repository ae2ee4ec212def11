"""Optimizers by their class: the plan's name of each, and what an option of its constructor makes of it.

What has no name of the Trainer's is called by its library and class, `torch.Adadelta`, with an option that changes its
states behind it, `torch.SGD(momentum)`; what an element costs it is derived from the class (optimizer_states.json).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from preflight.lazy_pattern import lazy_pattern
from preflight.own_tables import table_beside
from preflight.values import NamedTuple

CLASSES = {
    "torch": {
        "AdamW": "adamw_torch",
        "Adam": "adamw_torch",
        "SGD": "sgd",
        "RMSprop": "rmsprop",
        "Adagrad": "adagrad",
        "Adafactor": "adafactor",
    },
    "transformers": {"AdamW": "adamw_hf", "Adafactor": "adafactor"},
    "bitsandbytes": {
        "AdamW8bit": "adamw_bnb_8bit",
        "Adam8bit": "adamw_bnb_8bit",
        "PagedAdamW8bit": "paged_adamw_8bit",
        "PagedAdamW": "paged_adamw_32bit",
        "PagedAdamW32bit": "paged_adamw_32bit",
        "Lion": "lion_32bit",
        "Lion8bit": "lion_8bit",
        "PagedLion8bit": "paged_lion_8bit",
    },
    "deepspeed": {"FusedAdam": "deepspeed_fused_adam", "DeepSpeedCPUAdam": "deepspeed_cpu_adam"},
    "apex": {"FusedAdam": "adamw_apex_fused"},
    "torchao": {"AdamW8bit": "adamw_torch_8bit", "AdamW4bit": "adamw_torch_4bit"},
}
"""Library -> class -> the Trainer's name of that optimizer (get_optimizer_cls_and_kwargs of transformers 5.24)."""
DIVIDES_STATES = "ZeroRedundancyOptimizer"
"""torch's: of a class that it is given, every rank has the states of its share of the parameters
(torch/distributed/optim/zero_redundancy_optimizer.py _init_local_optimizer, _sync_params, 2.13)."""
GATHERS_STATES = "consolidate_state_dict"
"""Its method that sends the states of all ranks through a card."""
CONSTRUCTORS = frozenset(name for names in CLASSES.values() for name in names)


class ElementCost(NamedTuple):
    """What every element of a trained tensor costs an optimizer."""

    states_fp32: float
    """Bytes of its states where the parameter is in fp32."""
    states_16_bits: float
    copies_of_all: int
    """Copies of all parameters that a step makes in passing, as they are kept."""
    copies_of_one: int


_NAME = lazy_pattern(r"(\w+)\.(\w+)(?:\((\w+)\))?")


@lru_cache(maxsize=1)
def _derived() -> dict[str, dict[str, Any]]:
    """Return library -> class -> its cost, with the options that change it: their cost, or None where nobody knows it."""
    table = table_beside(__file__, "optimizer_states.json")
    return {library: one["classes"] for library, one in table.items()}


@lru_cache(maxsize=1)
def constructors() -> frozenset[str]:
    """Return the names of all classes that something is known of."""
    return CONSTRUCTORS | {cls for classes in _derived().values() for cls in classes}


def element_cost(name: str) -> ElementCost | None:
    """Return the derived cost of a name; None of the Trainer's names, and of what nobody knows."""
    said = _NAME.fullmatch(name)
    row = None if said is None else _derived().get(said[1], {}).get(said[2])
    if said is not None and row is not None and said[3] is not None:
        row = row[-1].get(said[3])
    return None if row is None else ElementCost(*row[:4])


def optimizer_of(path: str, options: Mapping[str, Any] | None = None) -> str | None:
    """Return the plan's name of a class, `torch.optim.AdamW` or as its module has it, under some options of its
    constructor; None where nothing prices it."""
    library, cls = path.partition(".")[0], path.rpartition(".")[2]
    name = CLASSES.get(library, {}).get(cls)
    row = _derived().get(library, {}).get(cls)
    if row is None:
        return None if (options or {}).get("amsgrad") else name
    changed = _changed(row[-1], options or {})
    if not changed:
        return name or f"{library}.{cls}"
    priced = row[-1][changed[0]] is not None and len(changed) == 1
    return f"{library}.{cls}({changed[0]})" if priced else None


def _changed(known: Mapping[str, Any], options: Mapping[str, Any]) -> list[str]:
    """Return the options that are given and change the cost; one beside another that it needs counts once."""
    given = [
        name
        for name, cost in known.items()
        if (options.get(name) is not None if cost is None else options.get(name))
    ]
    return [name for name in given if name != "nesterov" or "momentum" not in given]


def changing_options(path: str) -> frozenset[str]:
    """Return the options of a class's constructor that change what it costs."""
    row = _derived().get(path.partition(".")[0], {}).get(path.rpartition(".")[2])
    return frozenset(("amsgrad",)) if row is None else frozenset(row[-1])


def is_within_adamw(cls: str, options: Mapping[str, Any]) -> bool:
    """Tell whether a class of torch costs no more than AdamW in anything: an optimizer that is open holds it."""
    cost, most = (
        element_cost(optimizer_of(f"torch.optim.{cls}", options) or ""),
        element_cost("torch.AdamW"),
    )
    if cost is None or most is None:
        return False
    return all(mine <= theirs for mine, theirs in zip(cost, most, strict=True))


def states_of(name: str) -> str:
    """Return how a report speaks of what a name keeps: `the states of SGD with momentum`."""
    said = _NAME.fullmatch(name)
    cls, option = (name, None) if said is None else (said[2], said[3])
    return f"the states of {cls}" + (f" with {option}" if option else "")


def with_more_states(cls: str, options: Mapping[str, Any]) -> str:
    """Return `SGD with momentum` where the options of a constructor, of whatever library, add states to its own."""
    known = {"amsgrad": None, "master_weights": None, **_derived()["torch"].get(cls, [{}])[-1]}
    return next((f"{cls} with {name}" for name in known if options.get(name)), "")
