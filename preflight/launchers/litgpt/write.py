"""Writing a launch of litgpt's back: options behind all others, which the last of them beats."""

from __future__ import annotations

from preflight.launch import LaunchPlan
from preflight.launchers.litgpt.table import KEYS
from preflight.rewrite import Rewrite
from preflight.writers.keys import flag_and_value, write_keys


def write_litgpt(before: LaunchPlan, after: LaunchPlan) -> Rewrite | None:
    """Return the launch that gives the plan `after`; None unless options of its command can say it."""
    return write_keys(before, after, KEYS, flag_and_value)
