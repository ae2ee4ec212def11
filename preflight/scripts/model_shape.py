"""The shape of the model that a script trains: the checkpoint's own, that of a config by name, or another one."""

from __future__ import annotations

import ast
import re

from preflight.launch_facts import Uncounted
from preflight.models.registry import find_model
from preflight.scripts.files import CallFound, last_name
from preflight.scripts.nodes import unparse
from preflight.scripts.own_model import class_of_made, own_class
from preflight.scripts.reader import ScriptReader
from preflight.scripts.scope import Known
from preflight.scripts.script_settings import ScriptSettings

SHAPES = ("num_hidden_layers", "n_layer", "n_layers", "hidden_size", "n_embd", "vocab_size", "intermediate_size",
          "num_attention_heads", "num_key_value_heads")  # fmt: skip
"""Entries of a config that decide a model's size."""
OTHER_SHAPE = "a model of another shape"
OTHER_VOCABULARY = "embeddings for the words of another tokenizer"
FEW_WORDS = 1024
"""That a script adds to a tokenizer, or a length that is rounded up: a thousandth of a model of billions."""
_OF_TOKENIZER = re.compile(r"Tokenizer\w*\.from_pretrained$")
RESIZES = "resize_token_embeddings"
_SETS = re.compile(rf"\.(?:{'|'.join(SHAPES)})\s*=")
_NAMES = re.compile(rf"['\"](?:{'|'.join(SHAPES)})['\"]|\b(?:{'|'.join(SHAPES)})\s*=")


def _changes_shape(reader: ScriptReader) -> bool:
    """Tell whether a script sets what decides a model's size: `config.n_layer = 2`, `config.update({"n_layer": 2})`,
    `AutoConfig.from_pretrained(name, n_layer=2)`."""
    changing = ("update", "setattr", "from_pretrained")
    calls = [
        call.node
        for call in (*reader.named(*changing), *reader.maybe(*changing))
        if call.name != "from_pretrained" or "Config" in unparse(call.node.func)
    ]
    return any(_SETS.search(unparse(each)) for each, _ in reader.statements) or any(
        _NAMES.search(unparse(call)) for call in calls
    )


def adds_to_model(cls: str) -> str:
    """Return by which words a class of the script's own is told that makes the model."""
    return f"what {cls} adds to the model"


def note_own(reader: ScriptReader, settings: ScriptSettings, made: CallFound) -> None:
    """Note a model that is an object of a class of the script's own, whatever that loads."""
    cls = class_of_made(reader, made)
    if cls:
        settings.uncounted[adds_to_model(cls)] = Uncounted(reader.place(made), "either")


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
    node = found.node.args[0] if found.node.args else None
    if isinstance(node, ast.Name):
        at = (node.lineno, node.col_offset)
        written = reader.evaluator.may_hold(node.id, found.scope, at)
        node = written[0] if len(written) == 1 else None
    if not isinstance(node, ast.Call) or last_name(node.func) != "from_pretrained" or not node.args:
        return None
    if _changes_shape(reader):
        return None
    known = reader.evaluator.evaluate(node.args[0], found.scope)
    return known if isinstance(known.value, str) else None


def note_vocabulary(reader: ScriptReader, settings: ScriptSettings) -> None:
    """Note embeddings that are resized to a number of words, or by a tokenizer of another name, that may be many more."""
    resizing = (*reader.named(RESIZES), *reader.maybe(RESIZES))
    model = settings.arguments.get("model_name_or_path")
    if model is None or not resizing:
        return
    loaded = [
        call
        for call in reader.named("from_pretrained")
        if _OF_TOKENIZER.search(unparse(call.node.func))
    ]
    held = _num_words(model.value)
    for call in (*resizing, *loaded):
        given = reader.evaluator.value(call.node.args[0], call.scope) if call.node.args else None
        words = _num_words(given) if isinstance(given, str) else given
        is_other = isinstance(given, str) and given != model.value
        is_more = not isinstance(words, int) or held is None or words > held + FEW_WORDS
        if is_more and (is_other or isinstance(given, int)):
            settings.uncounted[OTHER_VOCABULARY] = Uncounted(reader.place(call), "more")


def _num_words(name: str) -> int | None:
    """Return the length of a model's vocabulary by its config; None where nobody here knows it."""
    entry = find_model(name)
    config = {} if entry is None else entry.config
    words = config.get("vocab_size", config.get("text_config", {}).get("vocab_size"))
    return words if isinstance(words, int) else None
