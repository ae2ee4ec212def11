"""The words that a script gives its model embeddings for: those of its checkpoint, or many more."""

from __future__ import annotations

import re

from preflight.launch_facts import Uncounted
from preflight.models.registry import find_model
from preflight.scripts.nodes import unparse
from preflight.scripts.reader import ScriptReader
from preflight.scripts.script_settings import ScriptSettings

OTHER_VOCABULARY = "embeddings for the words of another tokenizer"
FEW_WORDS = 1024
"""That a script adds to a tokenizer, or a length that is rounded up: a thousandth of a model of billions."""
_OF_TOKENIZER = re.compile(r"Tokenizer\w*\.from_pretrained$")
RESIZES = "resize_token_embeddings"


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
