"""Writing a launch of Automodel's back: dotted flags behind its file, which they beat."""

from __future__ import annotations

from typing import Any

from preflight.formats.edits import CannotEdit
from preflight.launch import LaunchPlan
from preflight.launchers.automodel.keys import KEYS, OLDEST, SINCE, WORDS
from preflight.rewrite import Rewrite
from preflight.versions.boundary import release
from preflight.writers.draft import LaunchDraft
from preflight.writers.keys import flag_and_value, write_keys
from preflight.writers.source import LaunchSource


def write_automodel(before: LaunchPlan, after: LaunchPlan) -> Rewrite | None:
    """Return the launch that gives the plan `after`; None unless keys of its release can say it."""
    table = dict(KEYS)
    if isinstance(before.source, LaunchSource) and before.source.places.get("seq_len"):
        # a dataset's own name of its length, or that of rows which are packed
        table["seq_len"] = before.source.places["seq_len"][0].key.lstrip("-")
    return write_keys(before, after, table, _flag, WORDS)


def _flag(draft: LaunchDraft, key: str, value: Any) -> list[str]:
    version = str(draft.part.own)
    if release(version) < release(SINCE.get(key, OLDEST)):
        raise CannotEdit(f"Automodel {version} has no {key}")
    return flag_and_value(draft, key, value)
