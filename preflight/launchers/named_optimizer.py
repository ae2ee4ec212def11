"""The optimizer that a framework's config names by its class, `optimizer: {_component_: torch.optim.SGD, momentum: 0.9}`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from preflight.formulas.optimizer_classes import optimizer_of
from preflight.launchers.framework_keys import FrameworkKeys, NotModelled
from preflight.setting import Setting

SECTION = "optimizer"


def named_optimizer(keys: FrameworkKeys, path: str, by: Setting) -> str:
    """Return the plan's name of a class, and name what is not priced of its states."""
    name = optimizer_of(path, _options(keys))
    if name is None:
        message = f"{path} is estimated as adamw_torch, as far as its options are known"
        keys.leave_out(NotModelled(message, f"the states of {path}", "either"), by)
    return name or "adamw_torch"


def _options(keys: FrameworkKeys) -> dict[str, Any]:
    """Return what the constructor is given, by the last word of its key."""
    given = {key: each.value for key, each in keys.given.items()}
    return dict(_leaves({k: v for k, v in given.items() if k.partition(".")[0] == SECTION}))


def _leaves(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _leaves(value)
        else:
            yield key.rpartition(".")[2], value
