"""Model builders as their source says them: arguments, sizes, the longest row, and the registry's model of these sizes.

The table is made of a release's source by the same functions (preflight/derive/tables/torchtune_tables.py).
"""

from __future__ import annotations

import ast
import difflib
from collections.abc import Mapping
from typing import Any

from preflight.models.registry import all_models, own_names
from preflight.scripts.python.nodes import walk

SIZES = {
    "vocab_size": "vocab_size",
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "num_kv_heads": "num_key_value_heads",
    "embed_dim": "hidden_size",
    "intermediate_dim": "intermediate_size",
}
"""Argument of a component builder -> key of the model's config.json."""


def builders_in(text: str, prefix: str, others: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the builders of one `_model_builders.py` by their names behind `prefix`.

    `others` are the builders of files that this one may import from. Raises SyntaxError for what is no Python.
    """
    found: dict[str, dict[str, Any]] = {}
    imported: dict[str, str] = {}
    for node in ast.parse(text).body:
        if isinstance(node, ast.ImportFrom) and node.module:
            package = node.module.removesuffix("._model_builders")
            imported.update({a.name: f"{package}.{a.name}" for a in node.names})
        elif isinstance(node, ast.FunctionDef):
            entry = _builder(node)
            if entry is not None:
                found[prefix + node.name] = entry
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            name = prefix + node.targets[0].id
            entry = _assigned(node.value, prefix, imported, {**others, **found})
            if entry is not None:
                found[name] = entry
    return found


def _assigned(
    value: ast.expr, prefix: str, imported: Mapping[str, str], known: Mapping[str, Any]
) -> dict[str, Any] | None:
    """Return what `qlora_x = partial(lora_x, quantize_base=True)` and `llama3_3_70b = llama3_1_70b` make."""
    wrapped = value.args[0] if isinstance(value, ast.Call) and value.args else value
    if not isinstance(wrapped, ast.Name):
        return None
    entry = known.get(prefix + wrapped.id) or known.get(imported.get(wrapped.id, ""))
    if entry is None or not isinstance(value, ast.Call):
        return None if entry is None else dict(entry)
    words = {word.arg: getattr(word.value, "value", None) for word in value.keywords}
    return {**entry, "quantizes": True} if words.get("quantize_base") else dict(entry)


def _builder(node: ast.FunctionDef) -> dict[str, Any] | None:
    """Return a builder's arguments, the sizes that its return statement writes out, and its longest row."""
    call = next((n.value for n in reversed(node.body) if isinstance(n, ast.Return)), None)
    if not isinstance(call, ast.Call):
        return None
    sizes = {}
    for word in call.keywords:
        if word.arg in SIZES and isinstance(word.value, ast.Constant):
            sizes[SIZES[word.arg]] = word.value.value
    arguments = [argument.arg for argument in (*node.args.args, *node.args.kwonlyargs)]
    longest = {
        word.value.value
        for word in walk(node)
        if isinstance(word, ast.keyword)
        and word.arg == "max_seq_len"
        and isinstance(word.value, ast.Constant)
        and isinstance(word.value.value, int)
    }
    entry = {"arguments": arguments, "sizes": sizes}
    return {**entry, "longest_row": max(longest)} if longest else entry


def model_of(name: str, sizes: Mapping[str, Any], folder: str) -> str | None:
    """Return the registry's id of a builder: the same sizes and the nearest name; the checkpoint's name without sizes.

    `folder` is the last part of the path that a config loads the checkpoint from.
    """
    plain = _plain(name.rsplit(".", 1)[-1].removeprefix("qlora_").removeprefix("lora_"))
    best, score = None, 0.0
    for entry in all_models():
        names = {alias: alias.rsplit("/", 1)[-1] for alias in own_names()[entry.id]}
        if sizes:
            is_text = "vision_config" not in entry.config and "-VL-" not in entry.id
            same = is_text and all(entry.config.get(key) == size for key, size in sizes.items())
        else:
            same = folder in names.values()
        for alias, short in names.items():
            text = _plain(short).removeprefix("meta")
            likeness = text.startswith(plain) + difflib.SequenceMatcher(None, plain, text).ratio()
            if same and likeness > score:
                best, score = alias, likeness
    return best


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())
