"""The words that a script gives its model embeddings for: those of its checkpoint, or many more."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

from preflight.launch_facts import Uncounted
from preflight.lazy_pattern import lazy_pattern
from preflight.models.registry import find_model
from preflight.scripts.python.names import MAX_DEPTH
from preflight.scripts.python.nodes import last_name, unparse
from preflight.scripts.python.reader import ScriptReader
from preflight.scripts.python.scope import UNKNOWN, Scope
from preflight.scripts.settings.script_settings import ScriptSettings

OTHER_VOCABULARY = "embeddings for the words of another tokenizer"
FEW_WORDS = 1024
"""That a script adds to a tokenizer, or a length that is rounded up: a thousandth of a model of billions."""
_OF_TOKENIZER = lazy_pattern(r"Tokenizer\w*\.from_pretrained$")
_NAMES_TOKENIZER = lazy_pattern(r"tokenizer(?:_name|_path|_name_or_path|_dir|_id)?")
RESIZES = "resize_token_embeddings"
ADDS = ("add_tokens", "add_special_tokens")
OF_FILES = frozenset({"load", "loads", "read", "readlines", "read_text", "splitlines", "tolist"})
"""Calls that give the words of a file, as many as it has."""
MORE_WORDS = "embeddings for words that a script adds"


def note_vocabulary(reader: ScriptReader, settings: ScriptSettings) -> None:
    """Note embeddings that are resized to a number of words, or by a tokenizer of another name, that may be many more."""
    resizing = reader.possible(RESIZES)
    model = settings.arguments.get("model_name_or_path")
    if model is None or not resizing:
        return
    loaded = [
        call
        for call in reader.named("from_pretrained")
        if _OF_TOKENIZER.search(unparse(call.node.func))
    ]
    for call in reader.named(*ADDS):
        if call.node.args and not _adds_few(reader, call.node.args[0], call.scope):
            settings.uncounted[MORE_WORDS] = Uncounted(reader.place(call), "more")
    held = _num_words(model.value) if isinstance(model.value, str) else None
    others = [name for name in _named_tokenizers(reader) if name != model.value]
    for call in (*resizing, *loaded):
        given = reader.evaluator.value(call.node.args[0], call.scope) if call.node.args else None
        if given is UNKNOWN and call in loaded and others:
            given = others[0]
        words = _num_words(given) if isinstance(given, str) else given
        is_other = isinstance(given, str) and given != model.value
        if call.node.args and _adds_many(reader, call.node.args[0], call.scope):
            settings.uncounted[MORE_WORDS] = Uncounted(reader.place(call), "more")
        is_more = not isinstance(words, int) or held is None or words > held + FEW_WORDS
        if is_more and (is_other or isinstance(given, int)):
            settings.uncounted[OTHER_VOCABULARY] = Uncounted(reader.place(call), "more")


def _named_tokenizers(reader: ScriptReader) -> Iterator[str]:
    """Yield the names of tokenizers that the command line says, which a script may load under whatever condition."""
    for said in reader.arguments():
        for name, known in said.items():
            if _NAMES_TOKENIZER.fullmatch(name) and isinstance(known.value, str) and known.value:
                yield known.value


def _adds_many(reader: ScriptReader, node: ast.expr, scope: Scope) -> bool:
    """Tell whether a length is one that is not known and many words more: `len(tokenizer) + 65536`."""
    if not isinstance(node, ast.BinOp) or not isinstance(node.op, ast.Add):
        return False
    sides = [reader.evaluator.value(side, scope) for side in (node.left, node.right)]
    return any(isinstance(side, int) and side > FEW_WORDS for side in sides) and not all(
        isinstance(side, int) for side in sides
    )


def _adds_few(reader: ScriptReader, node: ast.expr, scope: Scope, depth: int = 0) -> bool:
    """Tell whether few words are added: those that are written out, special ones, or one for each of few numbers."""
    if isinstance(node, ast.BinOp):
        return all(_adds_few(reader, side, scope, depth) for side in (node.left, node.right))
    if isinstance(node, ast.Call):
        return last_name(node.func) not in OF_FILES
    if isinstance(node, (ast.List, ast.Tuple, ast.Constant, ast.JoinedStr)):
        return True
    if isinstance(node, ast.Dict):  # {"additional_special_tokens": [...]}
        return all(_adds_few(reader, each, scope, depth) for each in node.values)
    if isinstance(node, ast.ListComp):
        over = node.generators[0].iter
        if not isinstance(over, ast.Call) or last_name(over.func) != "range" or not over.args:
            return True
        last = reader.evaluator.value(over.args[min(1, len(over.args) - 1)], scope)
        return isinstance(last, int) and last <= FEW_WORDS
    value = reader.evaluator.value(node, scope)
    groups: list[Any] = [*value.values()] if isinstance(value, dict) else [value]
    if all(isinstance(group, (str, list, tuple)) for group in groups):
        return all(isinstance(group, str) or len(group) <= FEW_WORDS for group in groups)
    if isinstance(node, ast.Name) and depth < MAX_DEPTH:  # `words = words + more`, in a loop
        made = reader.evaluator.may_be(node, scope)
        made = [each for each in made if not isinstance(each[0], ast.Name)]
        if made:
            return all(_adds_few(reader, *each, depth + 1) for each in made)
    return True


def _num_words(name: str) -> int | None:
    """Return the length of a model's vocabulary by its config; None where nobody here knows it."""
    entry = find_model(name)
    config = {} if entry is None else entry.config
    words = config.get("vocab_size", config.get("text_config", {}).get("vocab_size"))
    return words if isinstance(words, int) else None
