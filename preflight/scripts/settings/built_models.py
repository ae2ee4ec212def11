"""A model that a script builds of sizes that it says itself: `LlamaForCausalLM(LlamaConfig(hidden_size=1024))`.

It is made in fp32, whatever a checkpoint would be stored in, and nothing packs it or puts an adapter on it.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping

from preflight.scripts.arguments.trainer_spellings import SIZES
from preflight.scripts.python.files import CallFound
from preflight.scripts.python.library_classes import dotted
from preflight.scripts.python.nodes import argument_of, last_name
from preflight.scripts.python.reader import ScriptReader
from preflight.scripts.python.scope import UNKNOWN, Known
from preflight.scripts.settings.script_settings import ScriptSettings

BUILT = {
    "LlamaForCausalLM": ("LlamaConfig", "llama"),
    "MistralForCausalLM": ("MistralConfig", "mistral"),
    "MixtralForCausalLM": ("MixtralConfig", "mixtral"),
    "Qwen2ForCausalLM": ("Qwen2Config", "qwen2"),
    "Qwen3ForCausalLM": ("Qwen3Config", "qwen3"),
    "GPT2LMHeadModel": ("GPT2Config", "gpt2"),
    "GPTNeoXForCausalLM": ("GPTNeoXConfig", "gpt_neox"),
    "OPTForCausalLM": ("OPTConfig", "opt"),
    "GemmaForCausalLM": ("GemmaConfig", "gemma"),
    "Gemma2ForCausalLM": ("Gemma2Config", "gemma2"),
    "Phi3ForCausalLM": ("Phi3Config", "phi3"),
}
"""Class of a model -> that of its config, and its model_type (transformers 5.24)."""
AUTO = "AutoModelForCausalLM"
_NO_SIZE = frozenset(
    {"bos_token_id", "eos_token_id", "pad_token_id", "unk_token_id", "use_cache", "rope_theta", "rms_norm_eps",
     "layer_norm_epsilon", "layer_norm_eps", "initializer_range"}
)  # fmt: skip
"""Entries of a config that no memory depends on."""
_ATTENTION = ("attn_implementation", "_attn_implementation")
_CHANGES = ("set_default_dtype", "set_default_tensor_type", "resize_token_embeddings")
"""Calls after which a model that is built, or its embedding, is another."""


def read_built(reader: ScriptReader, settings: ScriptSettings, found: CallFound) -> bool:
    """Record the sizes of the model that a call makes of a config which the script writes out; tell whether it does."""
    is_auto = found.name == "from_config"
    config = _config_of(reader, found, is_auto)
    if config is None or reader.named(*_CHANGES) or reader.maybe(*_CHANGES):
        return False
    kind = next(((cls, each[1]) for cls, each in BUILT.items() if each[0] == config.name), None)
    if kind is None or (not is_auto and kind[0] != found.name):
        return False
    said, is_open = reader.keywords(config)
    sizes = None if is_open or config.node.args else _plain(said)
    if sizes is None:
        return False
    place = reader.place(config)
    chosen = [sizes.pop(name) for name in _ATTENTION if name in sizes]
    if chosen:
        settings.put("attn_implementation", Known(chosen[0], place))
    elif not is_auto:
        settings.seen["no_attention"] = place
    settings.put(SIZES, Known({"model_type": kind[1], "architectures": [kind[0]], **sizes}, place))
    if not {"dtype", "torch_dtype"} & {keyword.arg for keyword in found.node.keywords}:
        settings.put("dtype", Known("float32", place))
    return True


def _config_of(reader: ScriptReader, found: CallFound, is_auto: bool) -> CallFound | None:
    """Return the call that makes the config which a model is built of, and that nothing changes afterwards."""
    func, node = found.node.func, found.node
    cls = func.value if is_auto and isinstance(func, ast.Attribute) else func
    beside = {keyword.arg for keyword in node.keywords} - {"config"}
    if len(node.args) > 1 or not _is_librarys(reader, cls, found) or (beside and not is_auto):
        return None
    if last_name(cls) != AUTO if is_auto else last_name(cls) not in BUILT:
        return None
    given = argument_of(node, 0, "config")
    config = reader.only_call(given, found.scope)
    if config is None:
        return None
    is_changed = isinstance(given, ast.Name) and _may_change(reader, given.id)
    return None if is_changed or not _is_librarys(reader, config.node.func, config) else config


def _is_librarys(reader: ScriptReader, cls: ast.expr, found: CallFound) -> bool:
    """Tell whether a class is transformers' own, and none of the script's of that name."""
    is_own = reader.class_of(last_name(cls), found.scope.path) is not None
    return not is_own and dotted(reader, cls, found.scope.path).partition(".")[0] == "transformers"


def _may_change(reader: ScriptReader, name: str) -> bool:
    """Tell whether a statement sets something of what a name holds, a method of it is called, or a function is given it."""
    for statement, _ in reader.possible_statements:
        for target in statement.targets:
            inner = target.value if isinstance(target, (ast.Attribute, ast.Subscript)) else None
            sets = isinstance(inner, ast.Name) and inner.id == name
            if sets and getattr(target, "attr", "") not in _NO_SIZE:
                return True
    for call in reader.everywhere:
        func = call.node.func
        owner = func.value if isinstance(func, ast.Attribute) else None
        if isinstance(owner, ast.Name) and owner.id == name:
            return True
        given = (*call.node.args, *(each.value for each in call.node.keywords))
        is_given = any(isinstance(each, ast.Name) and each.id == name for each in given)
        if is_given and (call.name in reader.functions or call.name == "setattr"):
            return True
    return False


def _plain(said: Mapping[str, Known]) -> dict[str, object] | None:
    """Return what a config is told; None where a size is not known, or another entry is no plain value."""
    sizes: dict[str, object] = {}
    for name, known in said.items():
        if name in _NO_SIZE:
            continue
        if known.value is UNKNOWN or not isinstance(known.value, (int, float, str, type(None))):
            return None
        if name in ("dtype", "torch_dtype", "auto_map", "quantization_config"):
            return None
        sizes[name] = known.value
    return sizes
