"""What a script's own step holds that no formula counts: another copy, another forward pass, an optimizer nobody knows.

Names are looked for in the text, and calls in the syntax tree, of lines that some running line leads to.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Container, Iterable, Iterator, Sequence
from typing import NamedTuple, TypeGuard

from preflight import unpriced_names as unpriced
from preflight.lazy_pattern import lazy_pattern
from preflight.scripts.losses.own_losses import hands_to_model, own_losses
from preflight.scripts.python.assignments import walk_block
from preflight.scripts.python.flow import takes_gradient
from preflight.scripts.python.nodes import last_name, names_in, walk
from preflight.scripts.python.trees import tree_of
from preflight.scripts.python.without_graph import runs_without_graph
from preflight.scripts.uncounted.beside_adapter import trained_beside
from preflight.scripts.uncounted.between_steps import (
    generates,
    generates_beside,
    generates_of_trainers,
    own_nodes,
)
from preflight.scripts.uncounted.changed_parts import changed_parts, without_graph
from preflight.scripts.uncounted.kept_outputs import kept_of_all, kept_outputs
from preflight.scripts.uncounted.kept_tensors import (
    copies,
    found_gradients,
    kept_of_each,
    large_tensors,
)
from preflight.scripts.uncounted.own_loops import (
    graphs_of_rounds,
    grown_batch,
    grown_rows,
    made_again,
)
from preflight.scripts.uncounted.own_optimizers import PARAMETERS, PICKS, own_optimizers
from preflight.scripts.uncounted.whole_gathers import whole_gathers

_STEPS = lazy_pattern(r"^(?:compute_loss|training_step|train_step)$")
_FUNCTION = lazy_pattern(r"^[ \t]*(?:async[ \t]+)?def[ \t]+(\w+)", re.MULTILINE)
_WORTH = lazy_pattern(
    PARAMETERS.pattern
    + rf"|{PICKS}"
    + r"|no_grad\(|inference_mode\(|\.generate\(|state_dict|full_tensor|summon_full|GatheredParam|def (?:compute_loss|train|on_|_prepare_inp|get_batch_)|\bbackward\(|requires_grad|deepcopy\b|type\(\w*model\)|__class__\(|\w*[mM]odel\(\**\w+\)\.logits +for|model\.[\w.\[\]]+ *= *\w"
    r"|model\w* *= *[\w.]+\(|\.forward *= *\w|modeling_\w+\.\w+ *= *\w|model\.[\w.]+\.(?:append|insert|extend)\("
    r"|\.(?:add|register)_(?:module|parameter|buffer)\(|\.set_\w+\(|\bsetattr\(|\bdel .*model|\w\.float\(\)|float32|torch\.(?:empty|zeros|ones|full|randn?)\(|(?:layers?|blocks?|modules?)\b.*(?:\bin\b|=)"
    r"|\b(?!\w*model\b)\w+ *= *\w*(?:Model|For)\w*\.from_|\b(?!\w*model\b)\w+(?:, *\w+)* *= *\w+_model\w*\("
)


def functions_of(texts: Iterable[str]) -> frozenset[str]:
    """Return the names of the functions that files define, whose own text is looked into."""
    return frozenset(name for text in texts for name in _FUNCTION.findall(text))


class Asked(NamedTuple):
    """Names of functions of a script's files that ask its model, or make its rows."""

    run_model: frozenset[str] = frozenset()
    """What a step takes the gradient of: `loss = loss_of(model, batch); loss.backward()`."""
    grow_rows: frozenset[str] = frozenset()
    """What gives a step more rows, or longer ones, than it is given: `model(**several(batch))`."""
    generate: frozenset[str] = frozenset()
    """In which a model generates."""
    ask_model: frozenset[str] = frozenset()
    """Which ask a model that they are given, and which no trainer runs of itself."""


def uncounted_calls(
    text: str, used: str, functions: frozenset[str], asked: Asked
) -> Iterator[tuple[str, int]]:
    """Yield what the calls of a file hold beside the estimate, each with its line; nothing of what is not Python.

    `used` is the text with the lines emptied that nothing leads to, which need not be Python any more; `functions` are
    those that the repository defines.
    """
    is_asked = asked.run_model.intersection(_FUNCTION.findall(used))
    if not _WORTH.search(used) and not is_asked and not any(n in used for n in asked.generate):
        return
    lines = used.split("\n")
    try:
        found = list(_uncounted(tree_of(text), functions, asked))
    except (SyntaxError, ValueError):
        return
    except RecursionError:
        yield "a step that is too deep to be read", 1
        return
    yield from (each for each in found if lines[each[1] - 1].strip())


def _uncounted(
    tree: ast.Module, functions: frozenset[str], asked: Asked
) -> Iterator[tuple[str, int]]:
    nodes = walk(tree)
    steps = steps_of(nodes)
    for node in nodes:
        if isinstance(node, ast.FunctionDef) and node.name in asked.run_model:
            steps.setdefault(id(node), node.body)
    yield from generates_beside(nodes, steps, asked.generate, asked.ask_model)
    yield from generates_of_trainers(nodes)
    yield from own_optimizers(nodes)
    yield from without_graph(nodes)
    yield from trained_beside(nodes)
    yield from made_again(nodes)
    yield from kept_of_each(nodes)
    yield from copies(nodes)
    yield from large_tensors(nodes)
    yield from changed_parts(nodes, functions)
    yield from whole_gathers(nodes)
    yield from kept_of_all(nodes)
    for node in nodes:
        if isinstance(node, (ast.For, ast.While)) and id(node) not in steps:
            yield from kept_outputs(list(walk_block(node.body)))
        if id(node) in steps:
            yield from _second_forward(steps[id(node)], asked.run_model)
            yield from own_losses(steps[id(node)], nodes)
            yield from generates(steps[id(node)], asked.generate)
            own = list(own_nodes(steps[id(node)]))
            yield from grown_rows(own, asked.grow_rows)
            yield from kept_outputs(own)
            yield from found_gradients(own)
            yield from graphs_of_rounds(node)
        if isinstance(node, ast.FunctionDef):
            yield from grown_batch(node)


def steps_of(nodes: Sequence[ast.AST]) -> dict[int, list[ast.stmt]]:
    """Return id -> body of the functions and loops that are a step: by their name, or because they take the gradient, in
    no loop inside them."""
    is_training = takes_gradient(nodes)
    return {
        id(node): node.body
        for node in nodes
        if isinstance(node, (ast.FunctionDef, ast.For, ast.While))
        and (
            (isinstance(node, ast.FunctionDef) and _STEPS.match(node.name))
            or (is_training and goes_back(node.body))
        )
    }


def goes_back(body: Sequence[ast.stmt]) -> bool:
    """Tell whether a block takes the gradient, in no loop or function inside it."""
    return takes_gradient(own_nodes(body))


def _second_forward(body: Sequence[ast.stmt], asked: frozenset[str]) -> Iterator[tuple[str, int]]:
    forwards = forwards_of(body, asked)
    if len(forwards) > 1:
        yield unpriced.SECOND_FORWARD, forwards[1]


def forwards_of(body: Sequence[ast.stmt], asked: Container[str] = ()) -> list[int]:
    """Return the lines of forward passes that one run of a block makes and that have a graph; those of functions that it
    asks for its loss are made where it calls them."""
    read = (node for statement in body for node in walk(statement) if _is_outcome(node))
    return _forwards(body, asked, {last_name(node.value) for node in read} - {""})


def _is_outcome(node: ast.AST) -> TypeGuard[ast.Attribute]:
    return isinstance(node, ast.Attribute) and node.attr in ("loss", "logits")


def _forwards(body: Sequence[ast.stmt], asked: Container[str], read: Container[str]) -> list[int]:
    """Return the lines of the forward passes of a block; `read` are the names whose loss or logits are taken."""
    found: list[int] = []
    for place, statement in enumerate(body, 1):
        if isinstance(statement, ast.If):
            leaves = isinstance(statement.body[-1], (ast.Return, ast.Raise))
            behind = body[place:] if leaves else ()  # nothing of it runs after what leaves
            ways = (
                _forwards(statement.body, asked, read),
                _forwards([*statement.orelse, *behind], asked, read),
            )
            if leaves:
                return [*found, *max(*ways, key=len)]
            found += ways[len(ways[1]) > len(ways[0])]
        elif isinstance(statement, (ast.With, ast.AsyncWith)):
            if not runs_without_graph(statement):
                found += _forwards(statement.body, asked, read)
        elif isinstance(statement, ast.Try):
            found += _forwards(statement.body, asked, read)
        elif isinstance(statement, (ast.For, ast.While)) and not goes_back(statement.body):
            # the gradient of all of them is taken behind it
            found += 2 * _forwards(statement.body, asked, read)
        elif not isinstance(statement, (ast.FunctionDef, ast.ClassDef, ast.For, ast.While)):
            found += _forwards_of_statement(statement, asked, read)
    return found


def _forwards_of_statement(
    statement: ast.stmt, asked: Container[str], read: Container[str]
) -> Iterator[int]:
    nodes = walk(statement)
    outcomes = {id(node.value) for node in nodes if _is_outcome(node)}
    if isinstance(statement, ast.Assign) and any(last_name(t) in read for t in statement.targets):
        outcomes.add(id(statement.value))
    again = [node for node in nodes if isinstance(node, _COMPREHENSIONS) or _maps(node)]
    for part in (statement, *again):  # all that a comprehension makes is held
        for node in walk(part):
            if isinstance(node, ast.Call) and (
                (id(node) in outcomes and not any(name in read for name in names_in(node)))
                or hands_to_model(node)
                or last_name(node.func) in asked
            ):
                yield node.lineno


def _maps(node: ast.AST) -> bool:
    """Tell whether a function that stands here is called for each of several: `map(lambda rows: model(**rows).loss, parts)`."""
    given = node.args[:1] if isinstance(node, ast.Call) and last_name(node.func) == "map" else ()
    return any(isinstance(each, ast.Lambda) for each in given)


_COMPREHENSIONS = (ast.ListComp, ast.GeneratorExp, ast.DictComp, ast.SetComp)
