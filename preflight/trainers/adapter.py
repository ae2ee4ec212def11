"""The adapter of a training: whether its arguments ask for one, its rank, and the modules that it goes on."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from preflight.errors import Problem
from preflight.formulas.adapters.adapter_kinds import KIND
from preflight.launch import Adapter, BaseQuantization
from preflight.lazy_pattern import lazy_pattern
from preflight.reading import Problems, Reading
from preflight.setting import Setting
from preflight.trainers.fields import FieldReader, PlanFields
from preflight.trainers.lookup import Given
from preflight.trainers.prepared_base import prepared_base

PEFT_DEFAULT_RANK = 8
"""peft.LoraConfig.r."""

_CONTAINERS = ("model", "layers", "self_attn", "mlp", "language_model")
"""Parts of a module's full name that hold the adapted modules."""


def read_adapter(given: Given, quantization: BaseQuantization | None) -> Reading[PlanFields]:
    """Return the adapter that a trainer's arguments, or a script's own of the usual names, ask for."""
    fields = FieldReader(given)
    switch, rank = fields.get("use_peft"), fields.positive("lora_r", "adapter")
    is_declared = "use_peft" in given.table.arguments
    if switch is not None:
        is_on = switch.value is True
    elif is_declared:
        is_on = False
    else:
        # Somebody's own script: a rank, or QLoRA by name, is an adapter.
        qlora = next((s for n, s in given.others.items() if n in ("qlora", "use_qlora")), None)
        is_default = rank is not None and rank.place.kind == "script"
        switch = (None if is_default else rank) or (qlora if quantization is not None else None)
        is_on = switch is not None
    if not is_on or switch is None:
        fields.problems.extend(_lora_without_switch(given, is_declared))
        return fields.reading()
    if not is_declared and switch.place.kind != "script":
        fields.inferred["adapter"] = f"read as adapter from {switch.place.key}"
    alpha = fields.value("lora_alpha", 32 if is_declared else None)
    targets = fields.get("lora_target_modules")
    to_save = fields.value("lora_modules_to_save")
    adapter = Adapter(
        kind=fields.value(KIND) or ("dora" if fields.value("use_dora") is True else "lora"),
        rank=rank.value if rank is not None else (16 if is_declared else PEFT_DEFAULT_RANK),
        alpha=int(alpha) if alpha is not None else None,
        dropout=float(fields.value("lora_dropout", 0.05 if is_declared else 0.0)),
        targets=fields.problems.take(_targets(given, targets)),
        dtype=None
        if quantization is None
        else prepared_base(given, quantization.scheme != "int8").adapter_dtype,
        modules_to_save=tuple(to_save) if isinstance(to_save, list) else None,
    )
    details = [
        setting
        for name in (
            "lora_r",
            "lora_alpha",
            "lora_dropout",
            "lora_target_modules",
            "lora_modules_to_save",
            "use_dora",
            KIND,
        )
        if (setting := fields.get(name)) is not None and setting is not switch
    ]
    fields.put("adapter", adapter, switch, *details)
    return fields.reading()


def _lora_without_switch(given: Given, is_declared: bool) -> Iterator[Problem]:
    stray = given.known.get("lora_r") or given.known.get("lora_target_modules")
    if is_declared and stray is not None and given.kind.is_own_script:
        yield Problem(
            f"{stray.place.key} has no effect without use_peft: this is full fine-tuning",
            stray.place.where,
            "add --use_peft true for LoRA",
            "PF427",
            "warning",
        )


_LAST_PART = lazy_pattern(r"(\w*)\((?:\?:)?([\w|]+)\)(\w*)\$?")


_PLACES = (0, 1, 3, 10)
"""Layers by which a pattern is tried: one that wants some of them speaks of no endings alone."""
_MODULES = {
    "model.layers.{}.self_attn": ("q_proj", "k_proj", "v_proj", "o_proj", "qkv_proj", "out_proj"),
    "model.layers.{}.mlp": ("gate_proj", "up_proj", "down_proj", "gate_up_proj", "fc1", "fc2"),
    "gpt_neox.layers.{}.attention": ("query_key_value", "dense"),
    "transformer.h.{}.attn": ("c_attn", "c_proj"),
}
"""Where linear modules stand in decoders of transformers, by most of which scripts name them."""


def _matched(pattern: str) -> tuple[str, ...] | None:
    """Return the endings of the usual modules whose whole name a pattern matches in every layer; None where there is none
    (peft/tuners/tuners_utils.py match_target_against_key, 0.21)."""
    try:
        compiled = re.compile(pattern)
    except re.error:
        return None
    found: set[tuple[str, ...]] = set()
    for layer in _PLACES:
        names = [
            (f"{owner.format(layer)}.{each}", each)
            for owner, own in _MODULES.items()
            for each in own
        ]
        found.add(tuple(each for whole, each in names if compiled.fullmatch(whole)))
    return next(iter(found)) if len(found) == 1 and found != {()} else None


def _named_by_pattern(pattern: str) -> tuple[str, ...]:
    """Return the endings that a pattern for names of modules speaks of: those that it matches, else its words."""
    matched = _matched(pattern)
    if matched is not None:
        return tuple(dict.fromkeys(matched))
    last = _LAST_PART.fullmatch(pattern.rpartition("\\.")[2])
    if last is not None:
        return tuple(f"{last[1]}{part}{last[3]}" for part in last[2].split("|"))
    return tuple(n for n in re.findall(r"[A-Za-z]\w+", pattern) if n not in _CONTAINERS)


def _targets(given: Given, setting: Setting | None) -> Reading[tuple[str, ...] | str | None]:
    if setting is None or setting.value is None:
        return Reading(None)
    value: Any = setting.value
    if isinstance(value, list) and len(value) > 1:
        return Reading(tuple(str(item) for item in value))
    single = str(value[0] if isinstance(value, list) else value)
    if single in ("all-linear", "all"):
        return Reading("all-linear")
    problems = Problems()
    if given.kind.is_own_script and "," in single:
        problems.append(
            Problem(
                f"lora_target_modules {single!r} is one name with commas; PEFT finds no module called that",
                setting.place.where,
                f"separate the names with spaces: {' '.join(single.split(','))}",
                "PF421",
            )
        )
    elif given.kind.is_own_script and isinstance(value, list) and single.isidentifier():
        # ModelConfig unpacks a list of one, and PEFT matches text as a pattern of the whole module name.
        problems.append(
            Problem(
                f"lora_target_modules {single} alone is a pattern for whole module names, and PEFT finds none",
                setting.place.where,
                f"write it as a pattern, '.*{single}', or name two modules",
                "PF421",
            )
        )
    if single.isidentifier() or "," in single:
        return Reading(tuple(part for part in single.split(",") if part), tuple(problems))
    names = _named_by_pattern(single)
    pattern = (
        f"lora_target_modules {single!r} is a pattern; it is read as the names {', '.join(names)}"
    )
    problems.append(Problem(pattern, setting.place.where, severity="info"))
    return Reading(names, tuple(problems))
