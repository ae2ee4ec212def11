"""Rows that a script makes itself, of random numbers or of one text, as benchmarks and smoke tests do:
`ids = torch.randint(0, vocab, (rows, length))`.

They are read where nothing else gives the model of a loop rows: whatever it is called with where gradients are taken is made so.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from preflight.scripts.python.assignments import returned_by, walk_block
from preflight.scripts.python.flow import takes_gradient
from preflight.scripts.python.nodes import keyword_of, last_name, unparse
from preflight.scripts.python.reader import ScriptReader
from preflight.scripts.python.scope import UNKNOWN, Known, Scope
from preflight.scripts.settings.answer_lengths import IDS, tokenizing
from preflight.scripts.settings.script_settings import ScriptSettings

ROWS = "per_device_train_batch_size"
_BY_SHAPE = frozenset({"randint", "full"})
"""Functions of torch and numpy that are given a shape beside other numbers, as a tuple or a list."""
_OF_SIZES = frozenset({"ones", "zeros", "empty"})
"""Those that may be given its numbers one by one."""
_KEEP = frozenset({"to", "cuda", "long", "int", "clone", "detach", "contiguous", "pin_memory"})
"""Methods that give back a tensor of the same shape."""
_MOST_STEPS = 16
_GIVE_ROWS = ("load_dataset", "load_from_disk", "DataLoader", "StatefulDataLoader")


def read_made_rows(reader: ScriptReader, settings: ScriptSettings) -> None:
    """Record the rows that a loop without a loader makes itself, and their length where nothing cuts them."""
    if reader.possible(*_GIVE_ROWS) or reader.possible_trainers:
        return
    given = [each for block in _steps(reader) for each in _given_to_model(reader, *block) or [None]]
    rows = [each for each in given if each is not None]
    if not rows or len(rows) < len(given):
        return
    _put(settings, ROWS, _same([each[0] for each in rows]))
    lengths = [each[-1] for each in rows if len(each) > 1]
    if lengths and "seq_len" not in {*settings.arguments, *settings.unread}:
        settings.put_later("seq_len", _same(lengths))


def _put(settings: ScriptSettings, name: str, known: Known) -> None:
    """Record a number, or that it is open where something else says another."""
    said = settings.arguments.get(name)
    if said is None or said.value != known.value:
        settings.put_later(name, known if said is None else Known(UNKNOWN, known.place))


def _same(numbers: list[Known]) -> Known:
    same = len({each.value for each in numbers}) == 1 and type(numbers[0].value) is int
    return numbers[0] if same else Known(UNKNOWN, numbers[0].place)


def _steps(reader: ScriptReader) -> Iterator[tuple[list[ast.Call], Scope]]:
    """Yield the calls of each block that takes gradients, and its names."""
    for body, scope in reader.blocks:
        calls = [node for node in walk_block(body) if isinstance(node, ast.Call)]
        if takes_gradient(calls):
            yield calls, scope


def _given_to_model(
    reader: ScriptReader, calls: list[ast.Call], scope: Scope
) -> list[list[Known] | None]:
    """Return what each call of the model is given: rows and their length, or rows alone where a tokenizer made them of a text;
    None for what is made otherwise, and nothing where a gradient is of another call."""
    made = [(each, _rows_of(reader, each, scope)) for each in calls]
    read = {id(each) for each, shape in made if shape is not None}
    gradients = [each for each in calls if last_name(each.func) == "backward"]
    if not all(_stands_on(each, read, scope) for each in gradients):
        return []
    models = {unparse(each.func) for each, shape in made if shape is not None}
    return [shape for each, shape in made if unparse(each.func) in models]


def _stands_on(gradient: ast.Call, calls: set[int], scope: Scope) -> bool:
    """Tell whether `loss.backward()`, or `engine.backward(loss)`, is of what one of some calls gave, through names that are
    set to it."""
    given = gradient.args[0] if gradient.args else gradient.func
    seen: set[str] = set()
    waiting: list[ast.AST] = [given]
    while waiting:
        node = waiting.pop()
        if id(node) in calls:
            return True
        if isinstance(node, ast.Name) and node.id not in seen:
            seen.add(node.id)
            waiting += scope.assigned.get(node.id, [])
        waiting += ast.iter_child_nodes(node)
    return False


def _rows_of(reader: ScriptReader, call: ast.Call, scope: Scope) -> list[Known] | None:
    """Return the shape of the rows of `model(**batch)`, `model(input_ids=ids)` and `model(ids, labels=ids)`."""
    ids = keyword_of(call, IDS)
    if ids is None and keyword_of(call, "labels") is not None:
        ids = next(iter(call.args), None)
    if ids is not None:
        return _shape(reader, ids, scope)
    for given in (each.value for each in call.keywords if each.arg is None):
        held, around = _behind(given, scope)
        if isinstance(held, ast.Call) and last_name(held.func) in tokenizing(reader):
            texts = [reader.evaluator.evaluate(each, around) for each in held.args[:1]]
            return [Known(1, each.place) for each in texts if isinstance(each.value, str)] or None
        made = reader.functions.get(last_name(held.func), []) if isinstance(held, ast.Call) else []
        returned = returned_by(made[0][0]) if len(made) == 1 else []
        if len(returned) == 1:
            held, around = _behind(returned[0], made[0][1])
        if isinstance(held, ast.Dict):
            columns = zip(held.keys, held.values, strict=True)
            ids = next((v for k, v in columns if isinstance(k, ast.Constant) and k.value == IDS), None)  # fmt: skip
            return None if ids is None else _shape(reader, ids, around)
    return None


def _shape(reader: ScriptReader, node: ast.expr, scope: Scope) -> list[Known] | None:
    """Return the rows and the length of a tensor of one number or of random ones; None of any other."""
    made, around = _behind(node, scope)
    name = last_name(made.func) if isinstance(made, ast.Call) else ""
    if not isinstance(made, ast.Call) or name not in _BY_SHAPE | _OF_SIZES:
        return None
    told = [keyword_of(made, "size"), keyword_of(made, "shape"), *made.args]
    held = [_behind(each, around)[0] for each in told if each is not None]
    shape = next((each.elts for each in held if isinstance(each, (ast.Tuple, ast.List))), None)
    sizes = shape or ([] if name in _BY_SHAPE else made.args)
    known = [reader.evaluator.evaluate(each, around) for each in sizes]
    return known if len(known) == 2 else None


def _behind(node: ast.expr, scope: Scope) -> tuple[ast.expr, Scope]:
    """Return what a name holds that is set once, without the calls that keep its shape, and the names there."""
    for _ in range(_MOST_STEPS):
        holder = scope.holder(node.id) if isinstance(node, ast.Name) else None
        if isinstance(node, ast.Name) and holder is not None:
            held = holder.assigned.get(node.id, [])
            if len(held) != 1 or holder.changes(node.id):
                return node, scope
            node, scope = held[0], holder
        elif (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in _KEEP
        ):
            node = node.func.value
        else:
            break
    return node, scope
