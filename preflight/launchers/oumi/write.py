"""Writing a launch of oumi's back: dotted flags behind its config, which they beat."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from preflight.launch import LaunchPlan
from preflight.launchers.oumi.keys import KEYS
from preflight.rewrite import Rewrite
from preflight.writers.keys import flag_and_value, write_keys

WORDS: Mapping[str, Mapping[Any, Any]] = {
    "adapter.targets": {"all-linear": "[all-linear]"},
    "engine": {f"zero{stage}": f"ZERO_{stage}" for stage in range(4)},
    "loss": {"fused_linear": True},
    "reshard_after_forward": {True: "FULL_SHARD", False: "SHARD_GRAD_OP"},
}


def write_oumi(before: LaunchPlan, after: LaunchPlan) -> Rewrite | None:
    """Return the launch that gives the plan `after`; None unless keys of its config can say it."""
    return write_keys(before, after, KEYS, flag_and_value, WORDS)
