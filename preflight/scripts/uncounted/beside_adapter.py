"""What a script trains beside an adapter: parameters that it asks gradients for, and what stands outside an adapted part."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Sequence

from preflight.lazy_pattern import lazy_pattern
from preflight.scripts.arguments.trainer_spellings import TUNES_PROJECTOR_ALONE
from preflight.scripts.python.nodes import last_name, unparse, walk
from preflight.scripts.python.trees import under
from preflight.scripts.settings.adapter_calls import ADAPTING
from preflight.unpriced_names import BESIDE_ADAPTER, PROJECTOR_BESIDE, TUNED_BESIDE

LLAVAS = "mm_projector"
"""What LLaVA's code calls the projector that it makes (llava/model/llava_arch.py, 1.2)."""
OF_ADAPTER = lazy_pattern(r"[\"'][^\"']*(?:lora|adapter|magnitude)", re.IGNORECASE)
PASSING = lazy_pattern(r"^(?:out|in)(?:put)?s?$|embeds?$|^(?:hidden_states|x|activations?)$")
"""Names of what runs through a model: that it asks for gradients trains nothing."""


def trained_beside(nodes: Sequence[ast.AST]) -> Iterator[tuple[str, int]]:
    """Yield the lines of a file that make parameters trainable which are none of an adapter's, each with what they are of."""
    of_adapter, of_projector = under(nodes, OF_ADAPTER), _of_projector(nodes)
    of_flag = under(nodes, re.compile(rf"\b{TUNES_PROJECTOR_ALONE}$"))
    for node in nodes:
        if (owner := _asks_for_gradients(node)) and id(node) not in of_adapter:
            told = TUNED_BESIDE if id(node) in of_flag else BESIDE_ADAPTER
            yield PROJECTOR_BESIDE if id(node) in of_projector else told, owner.lineno
    yield from ((BESIDE_ADAPTER, line) for line in _adapted_parts(nodes))


def _of_projector(nodes: Iterable[ast.AST]) -> set[int]:
    """Return the ids of what is done to every parameter of LLaVA's projector."""
    return {
        id(inner)
        for node in nodes
        if isinstance(node, ast.For) and unparse(node.iter).endswith(f".{LLAVAS}.parameters()")
        for inner in walk(node)
    }


def _asks_for_gradients(node: ast.AST) -> ast.expr | None:
    """Return what `p.requires_grad = True` and `p.requires_grad_()` make trainable."""
    target: ast.expr | None = None
    said: ast.expr | None = None
    if isinstance(node, ast.Assign):
        target, said = node.targets[0], node.value
    elif isinstance(node, ast.Call) and len(node.args) < 2:
        target, said = node.func, node.args[0] if node.args else ast.Constant(True)
    is_named = isinstance(target, ast.Attribute) and target.attr.rstrip("_") == "requires_grad"
    is_on = isinstance(said, ast.Constant) and said.value is True
    if not (is_named and is_on and isinstance(target, ast.Attribute)):
        return None
    return None if PASSING.search(last_name(target.value)) else target.value


def _adapted_parts(nodes: Sequence[ast.AST]) -> Iterator[int]:
    """Yield where a part of a model gets an adapter of its own: `model.model = get_peft_model(model.model, config)`.

    PEFT freezes what it is given (peft/tuners/tuners_utils.py inject_adapter, 0.12 to 0.21): a head outside of it trains,
    unless the script freezes the whole.
    """
    adapting = {
        node.name
        for node in nodes
        if isinstance(node, ast.FunctionDef)
        and any(isinstance(n, ast.Call) and last_name(n.func) in ADAPTING for n in walk(node))
    }
    for node in nodes:
        if not isinstance(node, ast.Assign) or not isinstance(call := node.value, ast.Call):
            continue
        target, given = node.targets[0], call.args[:1]
        if not isinstance(target, ast.Attribute) or not given:
            continue
        owner = unparse(target.value)
        is_part = owner.partition(".")[0] != "self" and unparse(given[0]) == unparse(target)
        if is_part and last_name(call.func) in ADAPTING | adapting and not _freezes(nodes, owner):
            yield node.lineno


def _freezes(nodes: Iterable[ast.AST], owner: str) -> bool:
    """Tell whether something is asked of all parameters of a model, one by one or at once."""
    asked = (f"{owner}.requires_grad_(", f"{owner}.parameters(", f"{owner}.named_parameters(")
    heads = (
        node.iter if isinstance(node, ast.For) else node
        for node in nodes
        if isinstance(node, (ast.For, ast.Call))
    )
    return any(unparse(head).startswith(asked) for head in heads)
