"""Writing a launch of OpenRLHF's back: flags behind its trainer, by the names of the launch's release."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from preflight.formats.edits import CannotEdit
from preflight.launch import LaunchPlan
from preflight.launchers.openrlhf.cli import OpenRlhfOwn
from preflight.launchers.openrlhf.plan import KEYS
from preflight.launchers.openrlhf.table import named, rows_of
from preflight.rewrite import Rewrite
from preflight.writers.draft import LaunchDraft
from preflight.writers.keys import flag_and_value, write_keys

WORDS: Mapping[str, Mapping[Any, Any]] = {
    "base_quantization.scheme": {"nf4": True},
    "engine": {f"zero{stage}": stage for stage in range(4)},
}


def write_openrlhf(before: LaunchPlan, after: LaunchPlan) -> Rewrite | None:
    """Return the launch that gives the plan `after`; None unless arguments of its release can say it."""
    # Ray starts the workers of PPO, whose engines move memory that must not grow.
    return write_keys(before, after, KEYS, _flag, WORDS, before.generation is None)


def _flag(draft: LaunchDraft, key: str, value: Any) -> list[str]:
    own = draft.part.own
    assert isinstance(own, OpenRlhfOwn), "OpenRLHF's reader leaves it"
    name = named(own.trainer, key, own.releases)
    if name is None:
        raise CannotEdit(f"OpenRLHF {' to '.join(own.releases)} has no {key}")
    if rows_of(own.trainer).arguments()[name].kind == "flag":
        return [f"--{name}"] if value else []
    return flag_and_value(draft, name, value)
