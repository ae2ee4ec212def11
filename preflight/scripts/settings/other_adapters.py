"""Configs of adapters that are not LoRA, of the kinds that are known: what a script makes with one."""

from __future__ import annotations

from preflight.formulas.adapters.adapter_kinds import (
    KIND,
    configs,
    dropout_of,
    is_usual,
    size_of_config,
)
from preflight.scripts.python.reader import ScriptReader
from preflight.scripts.python.scope import Known
from preflight.scripts.settings.made_and_given import is_loaded
from preflight.scripts.settings.script_settings import ScriptSettings


def read_other_adapter(reader: ScriptReader, settings: ScriptSettings) -> bool:
    """Record the one adapter that a script surely makes, where it is of a known kind; tell whether it is."""
    found = [
        (name, call) for name in configs() for call in reader.named(name) if is_loaded(reader, call)
    ]
    if len(found) != 1 or any(reader.maybe(name) for name in configs()):
        return False
    (name, call), place = found[0], reader.place(found[0][1])
    values, is_open = reader.keywords(call)
    if is_open or call.node.args:
        return False
    if not is_usual(name, {keyword: known.value for keyword, known in values.items()}):
        return False
    size, default = size_of_config(name)
    settings.seen["lora"] = place
    settings.put("use_peft", Known(True, place))
    settings.put(KIND, Known(configs()[name], place))
    settings.put("lora_dropout", values.get(dropout_of(name) or "", Known(0.0, place)))
    if size is not None:
        settings.put("lora_r", values.get(size, Known(default, place)))
    for keyword in ("target_modules", "modules_to_save"):
        if keyword in values:
            settings.put(f"lora_{keyword}", values[keyword])
    return True
