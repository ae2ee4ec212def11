"""What is fp32 of a quantized base, and in which dtype its adapter is: by the script's own call and by TRL's trainer."""

from __future__ import annotations

from collections.abc import Mapping

from preflight.reading import Problems
from preflight.trainers.lookup import Given
from preflight.values import NamedTuple
from preflight.versions.boundary import Boundary
from preflight.versions.trl_preparation import (
    CASTS,
    CASTS_ADAPTERS,
    CASTS_ADAPTERS_TOO,
    LEAVES_ADAPTED,
    PREPARES,
)

PREPARED_BY_SCRIPT = "kbit_preparation"
"""What the reader of scripts calls a call of PEFT's preparation (preflight/scripts/settings/by_call.py)."""
HAS_ADAPTER = "has_adapter"
"""What it calls a model with an adapter that a trainer is given beside a `peft_config` (settings/adapter_calls.py)."""


class PreparedBase(NamedTuple):
    """How a quantized base stands when training begins."""

    upcast: str
    """none, norms or all of what is not packed."""
    adapter_dtype: str | None
    """None = PEFT's rule."""


def prepared_base(given: Given, is_four_bit: bool) -> PreparedBase:
    """Return what the script and TRL's trainer, in the launch's release, make of a base that is loaded quantized.

    A model that the script has put an adapter on itself is not prepared again: only where the trainer is given a
    `peft_config`, and not by those of LEAVES_ADAPTED even then.
    """
    problems = Problems()
    kind, versions = given.kind, {"trl": given.versions.of("trl")}
    own = problems.take(given.find(PREPARED_BY_SCRIPT)).setting
    upcast = "all" if own is not None and own.value is True else "none"
    is_handed = "peft_config" in kind.text or "get_peft_model" not in kind.text
    is_handed = is_handed and not kind.module  # a library's module has put the adapter on
    adapted = problems.take(given.find(HAS_ADAPTER)).setting
    is_left = adapted is not None and adapted.value is True
    is_left = is_left and _holds(LEAVES_ADAPTED, _name_of(kind.trl_script), versions)
    if kind.trainer != "trl" or not is_handed or is_left:
        return PreparedBase(upcast, None)
    bf16 = problems.take(given.find("bf16")).setting
    has_bf16 = bf16 is not None and bf16.value is True
    return prepared_by_trl(kind.trl_script, versions, upcast, has_bf16 and is_four_bit)


def prepared_by_trl(
    method: str | None, versions: Mapping[str, str], upcast: str, may_cast: bool
) -> PreparedBase:
    """Return what the trainer of one of TRL's methods makes of a quantized base that is handed to it with a `peft_config`.

    `upcast` is how it is handed over; `may_cast` says that it is in 4 bits and trained under bf16.
    """
    name = _name_of(method)
    casts = may_cast and _holds(CASTS, name, versions)
    if _holds(PREPARES, name, versions):
        upcast = "all"
    if casts:
        upcast = "norms"
    is_narrow = _holds(CASTS_ADAPTERS, name, versions)
    is_narrow = is_narrow or (casts and CASTS_ADAPTERS_TOO.holds_in(versions))
    return PreparedBase(upcast, "bf16" if is_narrow else None)


def _name_of(method: str | None) -> str:
    return "sft" if method in (None, "gkd") else method  # GKDTrainer is an SFTTrainer


def _holds(table: Mapping[str, Boundary], name: str, versions: Mapping[str, str]) -> bool:
    return name in table and table[name].holds_in(versions)
