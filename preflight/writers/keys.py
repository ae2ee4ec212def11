"""A launch whose command line beats its config, written back as words: a launcher's table says which key a plan field has.

The table is the one by which the launcher is read (`plan field -> key`, dotted for a part of a field), so that a field that has
no key of its own is not written. What follows from another (the steps of a global batch, DeepSpeed's optimizer on the host) is
nobody's key: a rewrite is read again before it counts (rewriting.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from preflight.errors import BadInput
from preflight.formats.edits import CannotEdit
from preflight.launch import LaunchPlan
from preflight.rewrite import Rewrite
from preflight.writers import engine as write_engine
from preflight.writers.draft import LaunchDraft, flag_texts, open_draft
from preflight.writers.finish import finish
from preflight.writers.framework import SayKey, set_key, text_of
from preflight.writers.launch import changed_fields

OF_ADAPTER = ("kind", "dropout", "targets", "dtype", "modules_to_save")
OF_BASE = (
    "double_quant", "compute_dtype", "storage_dtype", "upcast_unquantized_to_fp32", "experts",
)  # fmt: skip
FOLLOWS = {
    "gradient_accumulation_steps": "micro_batch_size",
    "eval_micro_batch_size": "micro_batch_size",
    "generation.steps_per_generation": "micro_batch_size",
    "optimizer": "offload_optimizer",
    "optimizer_kernel": "optimizer",
    "kernels": "loss",
    "adapter": "adapter.rank",
    "base_quantization": "base_quantization.scheme",
    **dict.fromkeys(
        ("shard_degree", "wrap_policy", "reshard_after_forward", "state_dict_type"), "engine"
    ),
    **{f"adapter.{name}": "adapter.rank" for name in OF_ADAPTER},
    **{f"base_quantization.{name}": "base_quantization.scheme" for name in OF_BASE},
}
"""Part of a plan -> the part that decides it too, where a table has no key for the first."""
SWITCHES: Mapping[str, Mapping[Any, Any]] = {
    "activation_checkpointing": {"full": True, "none": False},
    "offload_params": {"cpu": True, "none": False},
    "offload_optimizer": {"cpu": True, "none": False},
}
"""Plan field -> what its values are called, where the launcher's table has no words of its own for them."""
ALLOCATOR = "expandable_segments"

Table = Mapping[str, str]
Words = Mapping[str, Mapping[Any, Any]]


def write_keys(
    before: LaunchPlan,
    after: LaunchPlan,
    table: Table,
    say: SayKey,
    words: Words | None = None,
    sets_variables: bool = True,
) -> Rewrite | None:
    """Return the launch that gives the plan `after`; None unless the table has a key for all that changes.

    `words` are the launcher's own for values of some fields. A variable of the command reaches the ranks where it
    `sets_variables` for them.
    """
    draft = open_draft(before)
    changed = dict(changed_parts(before, after))
    is_allocator = changed.pop(ALLOCATOR, None) is not None
    rest = {part for part in changed if part not in table and FOLLOWS.get(part) not in changed}
    if draft is None or rest or (is_allocator and not sets_variables):
        return None
    try:
        said: dict[str, Any] = {}
        for part, value in changed.items():
            if part in table:
                word = _word(part, value, words or {})
                if said.setdefault(table[part], word) != word:
                    raise CannotEdit(f"one key says {part} and another field")
        for key, word in said.items():
            set_key(draft, key, word, say)
        if is_allocator:
            write_engine.write_expandable_segments(draft, before, after)
        return finish(draft)
    except (CannotEdit, BadInput):
        return None


def changed_parts(before: LaunchPlan, after: LaunchPlan) -> Iterator[tuple[str, Any]]:
    """Yield what differs with its new value: plan fields, and dotted parts of those that have several."""
    for name in sorted(changed_fields(before, after)):
        old, new = getattr(before, name), getattr(after, name)
        if not is_dataclass(new):
            yield name, new
            continue
        if old is None:
            yield name, True
        for part in fields(new):
            value = getattr(new, part.name)
            if old is None or getattr(old, part.name) != value:
                yield f"{name}.{part.name}", value


def _word(part: str, value: Any, words: Words) -> Any:
    """Return a value as the launcher calls it."""
    known = words.get(part, SWITCHES.get(part))
    if value is None or (known is not None and value not in known):
        raise CannotEdit(f"the launcher has no word for {part} = {value}")
    return value if known is None else known[value]


def key_is_value(draft: LaunchDraft, key: str, value: Any) -> list[str]:
    """Return `key=value`, as Hydra and OmegaConf take it."""
    return [f"{key}={text_of(value)}"]


def flag_and_value(draft: LaunchDraft, key: str, value: Any) -> list[str]:
    """Return `--key value`, in the user's way of writing two words."""
    return [f"--{key}", *flag_texts(value)]
