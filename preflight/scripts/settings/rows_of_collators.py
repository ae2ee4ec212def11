"""Where a collator of a script's own hands on more rows, or longer ones, than it is given."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from preflight.lazy_pattern import lazy_pattern
from preflight.scripts.python.nodes import (
    argument_of,
    last_name,
    names_in,
    targets_of,
    unparse,
    walk,
)

_CALLED = frozenset({"__call__", "torch_call", "collate_fn", "collate"})
"""Methods of a collator that are given the rows (transformers/data/data_collator.py, 5.24.0; torch's DataLoader)."""
_OF_TOKENS = lazy_pattern(r"(?i)(?<!position_)(?<!position)(?<!type_)ids|token|input")
"""What holds the tokens of rows; of masks and positions alone there are no more rows."""
_NO_ROWS = lazy_pattern(
    r"(?i)ids|token|input|label|mask|len|word|image|pixel|grid|video|audio|frame|feature|patch|position|score|weight|keys|items|values"
)
"""What an entry of a row is called that is no list of further rows."""
_SIZES = lazy_pattern(r"\blen\(|batch|\bmax\(|\.size\(|\.shape\b|length|width")
"""What a number says that is taken from the rows: a tensor of that size is made for them, and none is repeated."""
_REPEATS = frozenset({"repeat", "repeat_interleave", "tile"})
_JOINS = frozenset({"cat", "concat", "concatenate", "vstack"})


def more_of_rows(made: ast.AST) -> Iterator[int]:
    """Yield the lines where a function or a class hands on rows twice, repeats what it made of them, or goes over what
    each row has: `super().__call__(rows + rows)`, `ids.repeat(4, 1)`, `for answer in row["answers"]: rows.append(answer)`.
    """
    for collate, given in _collates(made):
        nodes = walk(collate)
        within = {id(node) for loop in nodes if isinstance(loop, _LOOPS) for node in _inside(loop)}
        for node in nodes:
            if isinstance(node, ast.BinOp) and _is_more(node, given):
                yield node.lineno
            elif isinstance(node, (ast.Assign, ast.Dict, ast.keyword)):
                yield from _more_tokens(node, within)
            elif isinstance(node, ast.For):
                yield from _appended(node)


_LOOPS = (ast.For, ast.ListComp, ast.GeneratorExp, ast.DictComp)


def _inside(loop: ast.AST) -> Iterator[ast.AST]:
    return (node for node in walk(loop) if node is not loop)


def _collates(made: ast.AST) -> Iterator[tuple[ast.AST, str]]:
    """Yield what is called with the rows, and its name for them: methods of a class, a function, or what a function makes."""
    if isinstance(made, ast.ClassDef):
        methods = [each for each in made.body if isinstance(each, ast.FunctionDef)]
        for method in methods:
            if method.name in _CALLED:
                yield method, _parameter(method.args, 1)
    elif isinstance(made, ast.Lambda):
        yield made, _parameter(made.args, 0)
    elif isinstance(made, ast.FunctionDef):
        inner = [each for each in made.body if isinstance(each, ast.FunctionDef)]
        ends = [each.value for each in walk(made) if isinstance(each, ast.Return) and each.value]
        returned = {name for end in ends for name in names_in(end) if isinstance(end, ast.Name)}
        behind: list[ast.FunctionDef | ast.Lambda] = [
            *(each for each in inner if each.name in returned),
            *(each for each in ends if isinstance(each, ast.Lambda)),
        ]
        for each in behind or [made]:
            yield each, _parameter(each.args, 0)


def _parameter(args: ast.arguments, at: int) -> str:
    names = [*args.posonlyargs, *args.args]
    return names[at].arg if len(names) > at else ""


def _is_more(node: ast.BinOp, given: str) -> bool:
    """Tell whether rows are put behind others, or taken several times."""
    if not given or not isinstance(node.op, (ast.Add, ast.Mult)):
        return False
    return any(isinstance(each, ast.Name) and each.id == given for each in (node.left, node.right))


def _more_tokens(node: ast.AST, within: set[int]) -> Iterator[int]:
    """Yield where what is called tokens is repeated, or is several tensors of rows one behind another."""
    pairs: list[tuple[str, ast.expr]] = []
    if isinstance(node, ast.Assign):
        pairs = [(unparse(node.targets[0]), node.value)]
    elif isinstance(node, ast.keyword):
        pairs = [(node.arg or "", node.value)]
    elif isinstance(node, ast.Dict):
        pairs = [(unparse(k), v) for k, v in zip(node.keys, node.values, strict=True) if k]
    for name, value in pairs:
        calls = [each for each in walk(value) if isinstance(each, ast.Call)]
        if _OF_TOKENS.search(name) and any(
            _repeats(each) or (id(each) not in within and _joins(each)) for each in calls
        ):
            yield value.lineno


def _repeats(call: ast.Call) -> bool:
    """Tell whether a call repeats a tensor: by a number, and not by what makes a tensor as large as its rows are."""
    if last_name(call.func) not in _REPEATS or not (call.args or call.keywords):
        return False
    values = [*call.args, *(each.value for each in call.keywords)]
    owner = call.func.value if isinstance(call.func, ast.Attribute) else None
    is_made = isinstance(owner, ast.Call) and not any(isinstance(n, _LOOPS) for n in walk(owner))
    return not is_made and not any(_SIZES.search(unparse(each)) for each in values)


def _joins(call: ast.Call) -> bool:
    """Tell whether a call puts several tensors of rows one behind another, along the dimension 0."""
    if last_name(call.func) not in _JOINS or not call.args:
        return False
    parts, along = call.args[0], argument_of(call, 1, "dim")
    is_by_rows = along is None or (isinstance(along, ast.Constant) and along.value == 0)
    return is_by_rows and isinstance(parts, (ast.List, ast.Tuple)) and len(parts.elts) > 1


def is_several(node: ast.expr) -> bool:
    """Tell whether a loop within one over rows goes over several of each: numbers that are written, or a list that a row
    has, `row["answers"]`; tokens of a row, put one behind another, are no more rows."""
    if isinstance(node, ast.Tuple):
        return True
    if isinstance(node, ast.Call):
        return last_name(node.func) == "range"
    if not isinstance(node, ast.Subscript) or not isinstance(node.slice, ast.Constant):
        return False
    entry = node.slice.value
    return isinstance(entry, str) and not _NO_ROWS.search(entry)


def _appended(loop: ast.For) -> Iterator[int]:
    """Yield the loops within one over rows in which a list grows that is not made anew for each row."""
    anew = {
        name
        for node in _inside(loop)
        if isinstance(node, (ast.Assign, ast.AnnAssign))
        for target in targets_of(node)
        for name in names_in(target)
    }
    for inner in _inside(loop):
        if (
            not isinstance(inner, ast.For)
            or not is_several(inner.iter)
            or _SIZES.search(unparse(inner.iter))
        ):
            continue
        for node in _inside(inner):
            if not isinstance(node, ast.Call) or last_name(node.func) not in ("append", "extend"):
                continue
            grown = set(names_in(node.func))
            if not grown.intersection((*anew, *names_in(inner.target), *names_in(loop.target))):
                yield inner.lineno
