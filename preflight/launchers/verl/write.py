"""Writing a launch of verl's back: `key=value` behind the module, which beats the configuration."""

from __future__ import annotations

from typing import Any

from preflight.formats.edits import CannotEdit
from preflight.launch import LaunchPlan
from preflight.launchers.verl.cli import VerlOwn
from preflight.launchers.verl.easy_r1 import VERLS, WORKER
from preflight.launchers.verl.keys import KEYS, ROWS_OF_ALL, SINCE, TOKENS
from preflight.rewrite import Rewrite
from preflight.versions.boundary import release
from preflight.writers.draft import LaunchDraft
from preflight.writers.keys import key_is_value, write_keys
from preflight.writers.source import LaunchSource


def write_verl(before: LaunchPlan, after: LaunchPlan) -> Rewrite | None:
    """Return the launch that gives the plan `after`; None unless keys of its release can say it."""
    own = before.source.part.own if isinstance(before.source, LaunchSource) else None
    if not isinstance(own, VerlOwn):
        return None
    kind = "ppo" if own.trainer == "fork" else own.trainer
    table = dict(KEYS[kind])
    words: dict[str, dict[Any, Any]] = {}
    if own.counts_tokens and kind in TOKENS and after.micro_batch_size and after.seq_len:
        table["micro_batch_size"] = TOKENS[kind]
        words["micro_batch_size"] = {after.micro_batch_size: after.micro_batch_size * after.seq_len}
    elif own.rows_of_all and after.micro_batch_size:
        table["micro_batch_size"] = ROWS_OF_ALL
        words["micro_batch_size"] = {
            after.micro_batch_size: after.micro_batch_size * own.rows_of_all
        }
    # Ray starts the workers of PPO, and their engine moves memory that must not grow.
    return write_keys(before, after, table, _word, words, kind != "ppo")


def _word(draft: LaunchDraft, key: str, value: Any) -> list[str]:
    """Return the word that gives a key a value: the fork's own name of it, and verl's where the configuration has it."""
    own = draft.part.own
    assert isinstance(own, VerlOwn), "verl's reader leaves it"
    if own.trainer == "fork":
        ours = next((f"{WORKER}{name}" for name, verls in VERLS.items() if verls == key), None)
        if ours is None:
            raise CannotEdit(f"EasyR1 has no {key}")
        return key_is_value(draft, ours, value)
    if release(own.version) < release(SINCE.get(key, "0")):
        raise CannotEdit(f"verl {own.version} has no {key}")
    if own.has_only is not None and key not in own.has_only:
        raise CannotEdit(f"Hydra stops at a key that the configuration has not: {key}")
    return key_is_value(draft, key, value)
