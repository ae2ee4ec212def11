"""The shape of the model that a script trains: the checkpoint's own, that of a config by name, or another one."""

from __future__ import annotations

from preflight.launch_facts import Uncounted
from preflight.lazy_pattern import lazy_pattern
from preflight.scripts.python.files import CallFound
from preflight.scripts.python.library_classes import dotted
from preflight.scripts.python.nodes import unparse
from preflight.scripts.python.reader import ScriptReader
from preflight.scripts.python.scope import Known
from preflight.scripts.settings.own_model import class_of_made, is_strange, own_class
from preflight.scripts.settings.script_settings import ScriptSettings
from preflight.unpriced_names import MAKES, adds_to_model

SHAPES = ("num_hidden_layers", "n_layer", "n_layers", "hidden_size", "n_embd", "vocab_size", "intermediate_size",
          "num_attention_heads", "num_key_value_heads")  # fmt: skip
"""Entries of a config that decide a model's size."""
OTHER_SHAPE = "a model of another shape"
_SETS = lazy_pattern(rf"\.(?:{'|'.join(SHAPES)})\s*=")
_NAMES = lazy_pattern(rf"['\"](?:{'|'.join(SHAPES)})['\"]|\b(?:{'|'.join(SHAPES)})\s*=")


def _changes_shape(reader: ScriptReader) -> bool:
    """Tell whether a script sets what decides a model's size: `config.n_layer = 2`, `config.update({"n_layer": 2})`,
    `AutoConfig.from_pretrained(name, n_layer=2)`."""
    changing = ("update", "setattr", "from_pretrained")
    calls = [
        call.node
        for call in reader.possible(*changing)
        if call.name != "from_pretrained" or "Config" in unparse(call.node.func)
    ]
    return any(_SETS.search(unparse(each)) for each, _ in reader.statements) or any(
        _NAMES.search(unparse(call)) for call in calls
    )


def note_own(reader: ScriptReader, settings: ScriptSettings, made: CallFound) -> None:
    """Note a model that is an object of a class of the script's own, whatever that loads."""
    cls = class_of_made(reader, made)
    if cls:
        settings.uncounted[adds_to_model(cls)] = Uncounted(reader.place(made), "either")


def note_strange(reader: ScriptReader, settings: ScriptSettings, made: CallFound) -> None:
    """Note a model that a function of a package makes which nobody knows: timm's `create_model`."""
    func, path = made.node.func, made.scope.path
    is_function = made.name[:1].islower() and made.name not in reader.functions
    above = dotted(reader, func, path).split(".")[:-1]
    is_own = any(reader.is_here(path, ".".join(above[: n + 1])) for n in range(len(above)))
    if is_function and not is_own and is_strange(reader, func, path):
        settings.uncounted[f"what {made.name}{MAKES}"] = Uncounted(reader.place(made), "either")


def note_shape(reader: ScriptReader, settings: ScriptSettings, found: CallFound) -> None:
    """Note a model that is loaded with another shape than its checkpoint's config says."""
    said = {keyword.arg for keyword in found.node.keywords}
    changed = _changes_shape(reader)
    cls = own_class(reader, found)
    if cls:
        settings.uncounted[adds_to_model(cls)] = Uncounted(reader.place(found), "either")
    if said & {*SHAPES} or (changed and "config" in said):
        settings.uncounted[OTHER_SHAPE] = Uncounted(reader.place(found), "either")


def name_of_config(reader: ScriptReader, found: CallFound) -> Known | None:
    """Return the name of `AutoModel.from_config(AutoConfig.from_pretrained(name))`; None where that is not said."""
    made = reader.only_call(next(iter(found.node.args), None), found.scope)
    if made is None or made.name != "from_pretrained" or not made.node.args:
        return None
    if _changes_shape(reader):
        return None
    known = reader.evaluator.evaluate(made.node.args[0], made.scope)
    return known if isinstance(known.value, str) else None
