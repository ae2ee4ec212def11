"""What a script makes of OLMo-core's blocks: how they are checkpointed and attend, who shares a sequence, and the loss.

Source: TransformerActivationCheckpointingConfig, TransformerContextParallelConfig (train/train_module/transformer/config.py of
ai2-olmo-core 2.6.0 and 3.0.0), AttentionBackendName (nn/attention/backend.py), LMLossImplementation (nn/lm_head.py).
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping

from preflight.scripts.python.assignments import walk_block
from preflight.scripts.python.files import CallFound
from preflight.scripts.python.nodes import argument_of, keyword_of, last_name, unparse
from preflight.scripts.python.reach_values import attributes_set
from preflight.scripts.python.reader import ScriptReader
from preflight.scripts.python.scope import UNKNOWN, Known, Scope
from preflight.values import dataclass

CHECKPOINTS = "TransformerActivationCheckpointingConfig"
PARTS = {
    f"blocks.*.{name}"
    for name in (
        "attention_norm", "attention", "attention_residual_stream", "feed_forward_norm", "feed_forward",
        "feed_forward_residual_stream",
    )
}  # fmt: skip
"""All modules of a block, which may be checkpointed one by one (TransformerActivationCheckpointingMode.selected_modules)."""
DIVIDES = "TransformerContextParallelConfig.ulysses"
"""What exchanges heads between ranks that share a sequence; the other constructors send keys and values around a ring."""
BACKENDS = {
    "torch": "sdpa", "flash_2": "flash_attention_2", "flash_3": "flash_attention_3", "flash_4": "flash_attention_3",
    "te": "flash_attention_3",
}  # fmt: skip
"""Member of AttentionBackendName -> the attention whose tensors it keeps: none but torch's repeats keys or takes a mask."""
BACKEND, LOSS, DOCUMENTS = ("attn_backend", "backend"), ("loss_implementation",), ("generate_doc_lengths",)  # fmt: skip
"""Arguments of model configs and of datasets, and attributes of such configs."""


@dataclass(frozen=True)
class Blocks:
    """What is read of them; UNKNOWN where only running tells."""

    checkpoints: object
    """Whether they are checkpointed."""
    by_parts: bool
    """Whether their modules are, one by one."""
    sharing: int | None
    """Ranks that share a sequence by exchanging heads; None of a ring, or where they are not known."""
    attention: object
    loss: object
    """The member of LMLossImplementation that the script asks for; None where it asks for none."""


def read_blocks(reader: ScriptReader, call: CallFound, values: Mapping[str, Known]) -> Blocks:
    """Return what is read of a call that configures the train module, whose arguments have these values."""
    mode = "none"
    sharing: list[int | None] = [1]
    given = keyword_of(call.node, "ac_config")
    if given is not None and not is_none(call, values, "ac_config"):
        with reader.made_by(given, call.scope) as made:
            modes = {_mode(reader, *each) for each in made}
        mode = modes.pop() if len(modes) == 1 else ""
    given = keyword_of(call.node, "cp_config")
    if given is not None and not is_none(call, values, "cp_config"):
        with reader.made_by(given, call.scope) as made:
            sharing = [_degree(reader, *each) for each in made]
    losses = set(_said(reader, LOSS))
    return Blocks(
        {"none": False, "full": True, "selected_modules": True}.get(mode, UNKNOWN),
        mode == "selected_modules",
        sharing[0] if len(sharing) == 1 else None,
        _attention(reader),
        None if not losses else losses.pop() if len(losses) == 1 else UNKNOWN,
    )


def is_none(call: CallFound, values: Mapping[str, Known], name: str) -> bool:
    """Tell whether an argument of a call is surely None, or not given."""
    return keyword_of(call.node, name) is None or (name in values and values[name].value is None)


def _mode(reader: ScriptReader, node: ast.expr, scope: Scope) -> str:
    """Return how an expression checkpoints a block: not at all, whole, or all of its modules one by one; empty for others."""
    if isinstance(node, ast.Constant) and node.value is None:
        return "none"
    if not isinstance(node, ast.Call) or last_name(node.func) != CHECKPOINTS or node.args:
        return ""
    said = {each.arg: reader.evaluator.value(each.value, scope) for each in node.keywords}
    mode, modules = said.get("mode", "full"), said.get("modules")
    if mode == "selected_modules" and isinstance(modules, list) and set(modules) >= PARTS:
        return "selected_modules"
    return "full" if mode == "full" else ""


def _degree(reader: ScriptReader, node: ast.expr, scope: Scope) -> int | None:
    """Return how many ranks exchange heads by a config of context parallelism; None of any other, and where it is not known."""
    if isinstance(node, ast.Constant) and node.value is None:
        return 1
    if not isinstance(node, ast.Call) or not unparse(node.func).endswith(DIVIDES):
        return None
    said = argument_of(node, 0, "degree")
    degree = None if said is None else reader.evaluator.value(said, scope)
    return degree if isinstance(degree, int) and degree > 0 else None


def _attention(reader: ScriptReader) -> object:
    """Return the attention of the one backend that a script says; UNKNOWN where it says none, and may leave it to what is
    installed. Where rows have several documents torch's raises (TorchAttentionBackend.forward)."""
    said = {BACKENDS.get(str(each), UNKNOWN) for each in _said(reader, BACKEND) if each is not None}
    if len(said) == 1 and UNKNOWN not in said:
        return said.pop()
    return "flash_attention_2" if set(_said(reader, DOCUMENTS)) == {True} else UNKNOWN


def _said(reader: ScriptReader, names: tuple[str, ...]) -> Iterator[object]:
    """Yield what calls are given for arguments of some names, and what attributes of these names are set to."""
    for found in reader.everywhere:
        for each in found.node.keywords:
            if each.arg in names:
                yield _plain(reader, each.value, found.scope)
    for body, scope in reader.blocks:
        for node in walk_block(body):
            for attribute, value in attributes_set(node):
                if attribute.attr in names:
                    yield UNKNOWN if value is None else _plain(reader, value, scope)


def _plain(reader: ScriptReader, node: ast.expr, scope: Scope) -> object:
    value = reader.evaluator.value(node, scope)
    return value if value is None or isinstance(value, (str, bool)) else UNKNOWN
