"""Where a training script may decide something itself that we would otherwise take from flags and defaults."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from preflight.errors import Problem
from preflight.lazy_pattern import lazy_pattern
from preflight.notebooks import place_of
from preflight.reading import Problems, Reading
from preflight.scripts.arguments.trainer_spellings import ALL_SPELLINGS, OLD_NAMES
from preflight.setting import Place
from preflight.trainers.fields import PlanFields
from preflight.trainers.lookup import Given
from preflight.versions.spans import home_of

if TYPE_CHECKING:
    from preflight.scripts.python.own_parser import OwnParser
    from preflight.scripts.python.reader import ScriptReader

MOST_COMPARED = 200
"""Names of a script's own that are held against the trainer's; each takes a millisecond, and nobody types more."""


def near_misses(
    given: Given, declared: Collection[str], mentioned: Collection[str]
) -> Iterator[Problem]:
    """Yield which of the script's own names are one slip away from a trainer argument: the default is used then.

    `declared` are the names that its parser has been read to take, `mentioned` the places that a
    problem names already.
    """
    if not given.has_trainer or given.kind.is_own_script or not given.others:
        return
    num_compared = 0
    for name, setting in given.others.items():
        if (
            name in ALL_SPELLINGS
            or name in OLD_NAMES
            or name in given.table.arguments  # with a value that is none of its own
            or name in declared
            or setting.place.where in mentioned
            or _is_of_release(given, name)
        ):
            continue
        num_compared += 1
        if num_compared > MOST_COMPARED:
            return
        import difflib

        near = difflib.get_close_matches(name, given.table.arguments, n=1, cutoff=0.85)
        if near:
            yield Problem(
                f"{setting.place.key} is not a trainer argument; if the script has none of that name, it stops",
                setting.place.where,
                f"did you mean {near[0]}",
                severity="warning",
            )


def _is_of_release(given: Given, name: str) -> bool:
    """Tell whether the trainer of the release that is taken has an argument that the newest has not."""
    home = home_of(name, given.kind.trl_script)
    return home is not None and home[1].holds_in(given.versions.of(home[0]))


NEVER_GUESSED = ("micro_batch_size", "seq_len")
"""Fields whose default is not taken where a script may set them, to something unknown or unread."""


def without_unread(
    given: Given, reader: ScriptReader, own: OwnParser, has_trainers_parser: bool
) -> Reading[Given]:
    """Return what was given without options of the script's own, and keys of a file that it loads, which nothing in it reads
    again."""
    said = {**given.known, **given.others}
    declared = {option.name for option in own.options.values()}
    decides = [name for name in said if name in ALL_SPELLINGS]
    flags = [n for n in decides if said[n].place.kind == "argv"]
    options = [n for n in flags if n in declared]
    parameters = flags if reader.commands else []
    keys = [n for n in decides if said[n].place.kind in ("yaml", "json")]
    if not (options or parameters) and (has_trainers_parser or not keys):
        return Reading(given)
    from preflight.scripts.python.parsed_object import LOADS  # most say none
    from preflight.scripts.python.parsed_options import unread_options, unread_parameters

    of_library = given.table.arguments
    unread = {*unread_options(reader, options, of_library)} if options else set()
    unread |= unread_parameters(reader, parameters)
    if keys and not has_trainers_parser:
        unread |= unread_options(reader, keys, (), LOADS)
    known, others = (
        {name: setting for name, setting in each.items() if name not in unread}
        for each in (given.known, given.others)
    )
    problems = tuple(
        Problem(
            f"{said[name].place.key} changes nothing: {os.path.basename(reader.path)} reads it nowhere",
            said[name].place.where,
            "hand it to what it is meant for",
            "PF122",
            "warning",
        )
        for name in decides
        if name in unread
    )
    return Reading(replace(given, known=known, others=others), problems)


_SHRINKS = lazy_pattern(r"(?:^|_)(?:[48]_?bits?|quanti\w+|bnb|nf4|q?lora|peft|adapter\w*)(?:_|$)")
_OFF = ("", "0", "no", "none", "null", "false")
_OTHER = lazy_pattern(
    r"mlp_adapter|projector|(?:^|_)(?:q|kv)_lora_rank$|^(?:no|not|disable|without|skip|merge|exclude)_"
)
"""Names with those words that turn neither on: the projector of a vision model, ranks of latent attention, negations."""


def unread_switches(given: Given, fields: PlanFields) -> Iterator[Problem]:
    """Yield which of the script's own names sounds like quantization or an adapter and was not read as such."""
    settings = fields.settings
    is_library = given.kind.is_own_script or bool(given.kind.module)
    if is_library or {"adapter", "base_quantization"} <= settings.keys():
        return
    for name, setting in given.others.items():
        found = _SHRINKS.search(name)
        if found is None or name in ALL_SPELLINGS or str(setting.value).lower() in _OFF:
            continue
        if _OTHER.search(name):
            continue
        is_adapter = any(word in found[0] for word in ("lora", "peft", "adapter"))
        plan_field = "adapter" if is_adapter else "base_quantization"
        if plan_field in settings:
            continue
        example = "adapter.rank=16" if is_adapter else "base_quantization.scheme=nf4"
        yield Problem(
            f"{setting.place.key} is the script's own and is not read: {plan_field} is taken as none",
            setting.place.where,
            f"if it turns one on, say so with --set {example}",
            "PF120",
            "warning",
        )
        return


def without_what_script_decides(
    given: Given, fields: PlanFields, script: str | None
) -> Reading[PlanFields]:
    """Return the fields without the defaults that the script replaces by values of its own, which are not read."""
    text = given.kind.text
    if given.kind.is_guess:
        sure = {name: each for name, each in fields.defaults.items() if name not in NEVER_GUESSED}
        return Reading(replace(fields, defaults=sure))
    if not text or script is None:
        return Reading(fields)
    problems = Problems()
    built = re.search(
        r"\b(?:Seq2Seq)?TrainingArguments\(|\b(?:SFT|DPO|GRPO|KTO|Reward|RLOO)Config\(", text
    )
    defaults = dict(fields.defaults)
    unread: dict[str, Place] = {}
    if built is not None:
        dropped = [name for name in ("micro_batch_size", "seq_len") if defaults.pop(name, None)]
        if dropped:
            says = f"sets its {built[0]}...) itself"
            problems.append(_script_decides(text, script, built.start(), says, dropped))
    for pattern, plan_field, says in (
        (r"\bLoraConfig\(|\bget_peft_model\(", "adapter", "makes its own PEFT adapter"),
        (r"\bBitsAndBytesConfig\(", "base_quantization", "quantizes its model itself"),
    ):
        found = re.search(pattern, text)
        if found is not None and plan_field not in fields.settings:
            problems.append(_script_decides(text, script, found.start(), says, [plan_field]))
            unread[plan_field] = Place("script", script, found[0], _line_of(text, found.start()))
    facts = replace(
        fields.script, builds_arguments=built is not None, unread={**fields.script.unread, **unread}
    )
    return Reading(replace(fields, defaults=defaults, script=facts), tuple(problems))


def _script_decides(
    text: str, script: str, position: int, says: str, plan_fields: list[str]
) -> Problem:
    line = _line_of(text, position)
    names = " and ".join(plan_fields)
    are = "are" if len(plan_fields) > 1 else "is"
    return Problem(
        f"{script} {says}, in a way that is not followed: {names} {are} not known from it",
        place_of(script, line),
        f"say it with --set {plan_fields[0]}=VALUE",
        "PF121",
        "warning",
    )


def _line_of(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1
