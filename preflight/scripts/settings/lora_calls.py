"""The adapter that a script makes by a LoraConfig, where it reaches a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from preflight.plan_choices import OPEN_PARTS, OPEN_VALUES
from preflight.scripts.python.files import CallFound
from preflight.scripts.python.nodes import keyword_of
from preflight.scripts.python.reader import ScriptReader
from preflight.scripts.python.scope import UNKNOWN, Known
from preflight.scripts.settings.adapter_calls import (
    LORA,
    LORA_DEFAULTS,
    beside_lora,
    handed_adapters,
    lora_values,
    read_adapted,
    read_adapting,
    written_adapters,
)
from preflight.scripts.settings.lora_layers import read_lora_layers
from preflight.scripts.settings.made_and_given import is_loaded, never_made
from preflight.scripts.settings.other_adapters import (
    read_other_adapter,
    read_own_adapter,
)
from preflight.scripts.settings.script_settings import ScriptSettings
from preflight.setting import Place

TARGETS = "lora_target_modules"


def read_adapter(reader: ScriptReader, settings: ScriptSettings) -> None:
    """Read kind, size and targets of the one that a trainer or a model is surely given; open what only running tells."""
    read_adapted(reader, settings)
    read_own_adapter(reader, settings)
    calls = [each for each in reader.named("LoraConfig") if is_loaded(reader, each)]
    others = [each for each in reader.maybe("LoraConfig") if is_loaded(reader, each)]
    for found in () if len(calls) == 1 else others:
        settings.unread.setdefault("use_peft", reader.place(found))
    for found in (*calls, *others):
        settings.uncounted.update(beside_lora(reader, found))
        adapters = settings.may_be.get("adapter", OPEN_VALUES["adapter"])
        settings.may_be["adapter"] = (*adapters, *written_adapters(reader, found))
    is_lora = bool(reader.named("LoraConfig") or reader.maybe("LoraConfig"))
    if not is_lora and read_other_adapter(reader, settings):
        return
    if not calls:
        _read_parts(reader, settings, others)
        read_adapting(reader, settings)
        read_lora_layers(reader, settings)
        never_made(reader, settings, "LoraConfig", "use_peft")
        return
    place = reader.place(calls[0])
    settings.seen["lora"] = place
    if len(calls) > 1:
        settings.unread["use_peft"] = place
        _open_parts(settings, [lora_values(reader, each)[0] for each in calls], place)
        return
    for handed, is_one in handed_adapters(reader, calls[0]):
        if is_one is not True:
            settings.put("use_peft", Known(False if is_one is False else UNKNOWN, handed))
            return
    values, is_open = lora_values(reader, calls[0])
    beside = [
        lora_values(reader, each)[0] for each in others
    ]  # one more may be made, or in its place
    settings.put("use_peft", Known(True, place))
    for name, default in LORA_DEFAULTS.items():
        settings.put(name, Known(default, place))
    for keyword, name in LORA.items():
        if name in OPEN_PARTS and _differ([each.get(keyword) for each in (values, *beside)]):
            settings.put(name, Known(UNKNOWN, place))
        elif keyword in values:
            settings.put(name, values[keyword])
            if name == TARGETS and values[keyword].value is UNKNOWN and not is_open:
                _note_targets(reader, settings, calls[0], keyword)
        elif is_open and name in OPEN_PARTS:
            settings.put(name, Known(UNKNOWN, place))


def _read_parts(reader: ScriptReader, settings: ScriptSettings, calls: Sequence[CallFound]) -> None:
    """Record what the LoraConfigs that may be made say of parts of an adapter: a rank that a flag gives says no more."""
    told = [lora_values(reader, each) for each in calls]
    for keyword, name in LORA.items():
        said = [values.get(keyword) for values, _ in told]
        if name not in OPEN_PARTS or name == "lora_r" or not any(said):
            continue
        known = next(each for each in said if each is not None)
        settings.put(name, Known(UNKNOWN, known.place) if _differ(said) else known)


def _open_parts(
    settings: ScriptSettings, told: Sequence[Mapping[str, Known]], place: Place
) -> None:
    """Note the parts of an adapter of which several LoraConfigs say different things: no flag says which of them trains."""
    for keyword, name in LORA.items():
        if name in OPEN_PARTS and _differ([values.get(keyword) for values in told]):
            settings.put_later(name, Known(UNKNOWN, place))


def _note_targets(
    reader: ScriptReader, settings: ScriptSettings, call: CallFound, keyword: str
) -> None:
    """Note the lists of modules of which a LoraConfig surely has one, where only running tells which."""
    from preflight.scripts.settings.alternatives import alternatives  # few scripts choose them

    given = keyword_of(call.node, keyword)
    if given is None:  # one of `**arguments`
        return
    ways = alternatives(reader, given, call.scope)
    if ways and None not in ways and len(ways) > 1:
        settings.may_be[TARGETS] = ways


def _differ(said: Sequence[Known | None]) -> bool:
    """Tell whether what several calls say of one keyword is not the same, where any says it."""
    return len({None if each is None else repr(each.value) for each in said}) > 1
