"""What is fp32 of a quantized base, and in which dtype its adapter is: by the script's own call and by TRL's trainer."""

from __future__ import annotations

from collections.abc import Mapping

from preflight.reading import Problems
from preflight.trainers.lookup import Given
from preflight.values import NamedTuple
from preflight.versions.boundary import Boundary
from preflight.versions.trl_preparation import CASTS, CASTS_ADAPTERS, CASTS_ADAPTERS_TOO, PREPARES

PREPARED_BY_SCRIPT = "kbit_preparation"
"""What the reader of scripts calls a call of PEFT's preparation (preflight/scripts/settings/by_call.py)."""


class PreparedBase(NamedTuple):
    """How a quantized base stands when training begins."""

    upcast: str
    """none, norms or all of what is not packed."""
    adapter_dtype: str | None
    """None = PEFT's rule."""


def prepared_base(given: Given, is_four_bit: bool) -> PreparedBase:
    """Return what the script and TRL's trainer, in the launch's release, make of a base that is loaded quantized.

    A model that the script has put an adapter on itself is not prepared again: only where the trainer is given a
    `peft_config`.
    """
    problems = Problems()
    kind, versions = given.kind, {"trl": given.versions.of("trl")}
    own = problems.take(given.find(PREPARED_BY_SCRIPT)).setting
    upcast = "all" if own is not None and own.value is True else "none"
    is_handed = "peft_config" in kind.text or "get_peft_model" not in kind.text
    is_handed = is_handed and not kind.module  # a library's module has put the adapter on
    if kind.trainer != "trl" or not is_handed:
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
    name = "sft" if method in (None, "gkd") else method  # GKDTrainer is an SFTTrainer

    def holds(table: Mapping[str, Boundary]) -> bool:
        return name in table and table[name].holds_in(versions)

    casts = may_cast and holds(CASTS)
    if holds(PREPARES):
        upcast = "all"
    if casts:
        upcast = "norms"
    is_narrow = holds(CASTS_ADAPTERS) or (casts and CASTS_ADAPTERS_TOO.holds_in(versions))
    return PreparedBase(upcast, "bf16" if is_narrow else None)
