"""The arguments that LLaMA-Factory's parser knows, from the shipped tables."""

from __future__ import annotations

from functools import lru_cache, partial
from typing import Any

from preflight.bool_words import LLAMAFACTORY_VARIABLE
from preflight.launchers.framework_keys import FrameworkKeys, NotModelled
from preflight.near_names import nearest_fix
from preflight.own_tables import table_beside
from preflight.scripts.arguments.trainer_tables import Argument, ArgumentTable, argument_table
from preflight.unpriced_names import BESIDE_TEXT
from preflight.versions.boundary import release
from preflight.versions.spans import spans_of

_table = partial(table_beside, __file__, "arguments.json")


@lru_cache(maxsize=1)
def llamafactory_arguments() -> ArgumentTable:
    """Return every argument of the parser: the framework's own, and those of TrainingArguments."""
    own = {
        name: Argument(name, entry[0], entry[1], tuple(entry[2]) if len(entry) > 2 else None)
        for name, entry in _table()["arguments"].items()
    }
    trainers = argument_table(None)
    return ArgumentTable({**trainers.arguments, **own}, trainers.versions)


def llamafactory_version() -> str:
    """Return the release that the shipped table was made from."""
    version: str = _table()["version"]
    return version


def is_enabled(env: Any, name: str, default: str = "0") -> bool:
    """Tell whether LLaMA-Factory takes a variable for on."""
    return LLAMAFACTORY_VARIABLE.read(env.get(name, default)) is True


RENAMED = {
    "dpo_beta": "pref_beta",
    "dpo_ftx": "pref_ftx",
    "dpo_loss": "pref_loss",
    "evaluation_strategy": "eval_strategy",
    "kto_ftx": "pref_ftx",
    "name_module_trainable": "freeze_trainable_modules",
    "num_layer_trainable": "freeze_trainable_layers",
    "orpo_beta": "pref_beta",
    "sft_packing": "packing",
}
"""Argument before 0.8.0 -> what it is called since; `kto_ftx` was in no release."""
OLDER_NOT_MODELLED = {
    "lora_bf16_mode": "the dtype of an adapter",
    "visual_inputs": BESIDE_TEXT,
}
"""Argument that only older releases have -> what the estimate lacks of it; the others change no tensor on a GPU, or
none that the length of a row does not bound (`image_resolution`), or are read (`train_mm_proj_only`)."""


def check_unknown_keys(keys: FrameworkKeys, are_allowed: bool) -> None:
    """Refuse keys that no release of the parser knows; ALLOW_EXTRA_ARGS lets it drop them.

    What another release than the shipped table's knows is read by that table's rules, and said; it is refused where
    the release of the launch is known to be none of those.
    """
    known = llamafactory_arguments().arguments
    for name, setting in list(keys.given.items()):
        if name in known:
            continue
        releases = _older_releases(name, keys)
        near = nearest_fix(name, tuple(known))
        if releases:
            keys.given.setdefault(RENAMED.get(name, name), setting)
            keys.leave_out(
                NotModelled(
                    f"{name} is an argument of {releases}, not of LLaMA-Factory {llamafactory_version()},"
                    " by whose rules the launch is read",
                    OLDER_NOT_MODELLED.get(name, ""),
                    "either" if name in OLDER_NOT_MODELLED else "",
                ),
                setting,
            )
        elif are_allowed:
            message = f"LLaMA-Factory has no argument {name!r}: it is ignored"
            keys.note("PF140", message, setting, near)
        elif keys.library.is_known and release(keys.library.version) > release(
            llamafactory_version()
        ):
            message = f"{name} is no argument of LLaMA-Factory {llamafactory_version()}, the last that was read"
            keys.leave_out(NotModelled(message, f"what {name} does", "either"), setting)
        else:
            keys.refuse(f"LLaMA-Factory has no argument {name!r}", setting, near, key=name)


def _older_releases(name: str, keys: FrameworkKeys) -> str:
    """Return the releases of LLaMA-Factory, or of the transformers below it, that know an argument and that a launch may have."""
    version = keys.library.version if keys.library.is_known else None
    first, last = _table()["older"].get(name, ("", ""))
    if first and (version is None or release(first) <= release(version) <= release(last)):
        return f"LLaMA-Factory {first if first == last else f'{first} to {last}'}"
    span = spans_of("transformers", "Seq2SeqTrainingArguments").get(name)
    if span is not None and span.until:
        return f"transformers {span}" if is_before(keys, llamafactory_version()) else ""
    return "LLaMA-Factory before 0.8" if name in RENAMED and is_before(keys, "0.8.0") else ""


def is_before(keys: FrameworkKeys, first: str) -> bool:
    """Tell whether the release of the launch may be older than one."""
    return not keys.library.is_known or keys.library.is_before(first)
