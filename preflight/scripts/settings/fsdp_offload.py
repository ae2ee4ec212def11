"""Whether a script's own FSDP call keeps parameters, gradients and states in host memory.

Source: CPUOffload of torch/distributed/fsdp/api.py, and CPUOffloadPolicy of torch/distributed/fsdp/_fully_shard/_fsdp_api.py,
2.13.0. A call is often given such arguments in a dict: `fully_shard(layer, **fsdp_config)`.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable

from preflight.scripts.python.files import CallFound
from preflight.scripts.python.names import MAX_DEPTH
from preflight.scripts.python.nodes import keyword_of, last_name
from preflight.scripts.python.reader import ScriptReader
from preflight.scripts.python.scope import Scope
from preflight.scripts.settings.script_settings import Said

ARGUMENT = {"fsdp1": "cpu_offload", "fsdp2": "offload_policy"}


def offload_of(reader: ScriptReader, call: CallFound, kind: str) -> Said | None:
    """Read `cpu_offload=CPUOffload(offload_params=True) if flag else None`, or `offload_policy=CPUOffloadPolicy()`; None
    where only running tells."""
    ways = list(_given(reader, call, ARGUMENT[kind]))
    values = {None if node is None else _value(reader, node, scope) for node, scope in ways}
    if None in values or len(values) > 1:
        return None
    return Said(values.pop() if values else "none", reader.place(call))


def _given(
    reader: ScriptReader, call: CallFound, name: str
) -> Iterable[tuple[ast.expr | None, Scope]]:
    """Yield what a call may be given as an argument, with the block it stands in; None for what is not followed."""
    for keyword in call.node.keywords:
        if keyword.arg == name:
            yield keyword.value, call.scope
        elif keyword.arg is None:
            yield from _in_dict(reader, keyword.value, call.scope, name)


def _in_dict(
    reader: ScriptReader, node: ast.expr, scope: Scope, name: str
) -> Iterable[tuple[ast.expr | None, Scope]]:
    """Yield what a dict may hold under a key: as it is made, and as a statement sets it later."""
    only = reader.evaluator.only_node(node, scope)
    if only is None or reader.evaluator.may_set(node, name, scope):
        yield None, scope
        return
    node, scope = only
    if isinstance(node, ast.Dict):
        keys = [key.value if isinstance(key, ast.Constant) else None for key in node.keys]
        pairs = list(zip(keys, node.values, strict=True))
    elif isinstance(node, ast.Call) and last_name(node.func) == "dict" and not node.args:
        pairs = [(each.arg, each.value) for each in node.keywords]
    else:
        yield None, scope
        return
    yield from ((value, scope) for key, value in pairs if key == name)
    if any(key is None for key, _ in pairs):
        yield None, scope


def _value(reader: ScriptReader, node: ast.expr, scope: Scope, depth: int = 0) -> str | None:
    """Return `cpu` or `none` for an argument; None where only running tells, and of a name that refers to itself."""
    only = reader.evaluator.only_node(node, scope)
    if only is None or depth > MAX_DEPTH:
        return None
    node, scope = only
    if isinstance(node, ast.IfExp):
        ways = reader.evaluator.branches(node, scope)
        return _value(reader, ways[0], scope, depth + 1) if len(ways) == 1 else None
    if isinstance(node, ast.Constant) and node.value is None:
        return "none"
    if not isinstance(node, ast.Call) or node.args:
        return None
    made = last_name(node.func)
    if made in ("CPUOffloadPolicy", "OffloadPolicy"):
        return "cpu" if made == "CPUOffloadPolicy" else "none"
    if made != "CPUOffload":
        return None
    said = keyword_of(node, "offload_params")
    value = False if said is None else reader.evaluator.value(said, scope)
    return None if not isinstance(value, bool) else "cpu" if value else "none"
