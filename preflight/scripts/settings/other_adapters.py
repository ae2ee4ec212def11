"""Configs of adapters that are not LoRA, of the kinds that are known: what a script makes with one."""

from __future__ import annotations

import ast
import os

from preflight.formulas.adapters.adapter_kinds import (
    KIND,
    configs,
    dropout_of,
    is_usual,
    size_of_config,
)
from preflight.launch_facts import Uncounted
from preflight.scripts.python.files import CallFound
from preflight.scripts.python.nodes import argument_of, last_name, walk
from preflight.scripts.python.package_folders import package_folders
from preflight.scripts.python.reader import ScriptReader
from preflight.scripts.python.scope import UNKNOWN, Known
from preflight.scripts.settings.adapter_calls import ADAPTING, OF_PEFT_MODEL, handed_adapters
from preflight.scripts.settings.followed_models import followed
from preflight.scripts.settings.made_and_given import is_loaded
from preflight.scripts.settings.script_settings import ScriptSettings
from preflight.unpriced_names import NOT_LORA, OWN_PEFT

_OF_PEFT = frozenset({"LoraConfig", "PeftConfig"})
"""Configs that say LoRA, or are read from a folder that says the kind."""
_MAKING = "get_peft_model"


def read_own_adapter(reader: ScriptReader, settings: ScriptSettings) -> None:
    """Name an adapter that a function of the script's own puts on, or whose config is a class that is none of PEFT's: what
    either makes is not what PEFT makes of a rank, and flags of LoRA's names say nothing of it."""
    possible = {id(each.node) for each in reader.possible_calls}
    for call in reader.possible(_MAKING):
        if _has_copy(reader, call.scope.path):
            settings.uncounted[OWN_PEFT] = Uncounted(reader.place(call), "either")
        if _is_own_function(reader, call):
            settings.uncounted[NOT_LORA] = Uncounted(reader.place(call), "either")
        given = argument_of(call.node, 1, "peft_config")
        for made in () if given is None else followed(reader, given, call.scope):
            if made is not None and id(made.node) in possible and _is_own_config(reader, made):
                settings.uncounted[NOT_LORA] = Uncounted(reader.place(made), "either")


def _has_copy(reader: ScriptReader, path: str) -> bool:
    """Tell whether the `peft` that a file imports lies in the repository, which is not PEFT's own: copies are kept for what
    is changed in them."""
    names = reader.libraries.get(path, {}).values()
    if all(name.partition(".")[0] != "peft" for name in names) or not reader.is_here(path, "peft"):
        return False
    folders = package_folders(reader.command, os.path.dirname(path))
    return not any(
        reader.command.exists(os.path.join(each, "..", "setup.py"))
        and not os.path.relpath(path, os.path.join(each, "..")).startswith("..")
        for each in folders
        if os.path.basename(each) == "src"
        and reader.command.exists(os.path.join(each, "peft", "__init__.py"))
    )


def _is_own_function(reader: ScriptReader, call: CallFound) -> bool:
    """Tell whether a call means a function of the script's own, and none that hands its model on to PEFT."""
    is_imported = call.name in reader.libraries.get(call.scope.path, {})
    own = () if is_imported else reader.meant_by(call.node, call.scope)
    inner = {last_name(n.func) for f, _ in own for n in walk(f) if isinstance(n, ast.Call)}
    of_peft = inner.intersection((*ADAPTING, *OF_PEFT_MODEL)).difference(reader.classes)
    return bool(own) and not of_peft


def _is_own_config(reader: ScriptReader, made: CallFound) -> bool:
    known = {*_OF_PEFT, *configs()}
    is_imported = made.name in reader.libraries.get(made.scope.path, {})
    is_named = isinstance(made.node.func, ast.Name) and not is_imported
    is_own = is_named and reader.class_of(made.name, made.scope.path) is not None
    return made.name.endswith("Config") and (is_own or made.name not in known)


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
    for handed, is_one in handed_adapters(reader, call):
        if is_one is not True:
            settings.put("use_peft", Known(False if is_one is False else UNKNOWN, handed))
            return True
    settings.put("use_peft", Known(True, place))
    settings.put(KIND, Known(configs()[name], place))
    settings.put("lora_dropout", values.get(dropout_of(name) or "", Known(0.0, place)))
    if size is not None:
        settings.put("lora_r", values.get(size, Known(default, place)))
    for keyword in ("target_modules", "modules_to_save"):
        if keyword in values:
            settings.put(f"lora_{keyword}", values[keyword])
    return True
