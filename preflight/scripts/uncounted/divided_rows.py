"""Where a loop gives its model one rank's share of every row, and attention goes around a ring of all ranks.

What the model is called with is followed back to a function that takes chunks of a row: `rows.chunk(world_size, dim=1)
[rank]`, or two of twice as many, put together, so that every rank has as much to attend to (a ring's zigzag).

What is estimated is torch's ring (preflight/formulas/divided_sequences.py). ring-flash-attn's zigzag (0.1.8,
zigzag_ring_flash_attn.py), counted on two and four gloo ranks, takes a quarter less in a layer's attention where keys
have as many heads as queries, and up to a tenth more, 2 bytes per element of the queries, where they have an eighth.
"""

from __future__ import annotations

import ast
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from fractions import Fraction

from preflight.scripts.losses.own_losses import runs_model
from preflight.scripts.python.modules import Module
from preflight.scripts.python.nodes import argument_of, given_to, last_name, unparse, walk
from preflight.scripts.reach.reach_files import may_run
from preflight.scripts.uncounted.own_steps import goes_back
from preflight.setting import Place
from preflight.values import NamedTuple

RING = "ring_flash_attn"
"""The package, and what its functions of a ring are called by: `zigzag_ring_flash_attn_func`."""
_SAME_ROWS = frozenset({"to", "cuda", "contiguous", "long", "clone", "detach"})
_ROW = ("1", "-1")
"""The dimension of a batch's tokens."""
_MOST_STEPS = 200


class _File(NamedTuple):
    path: str
    tree: ast.Module
    lines: Container[int]
    """Numbers of its lines that may run."""


class _Frame(NamedTuple):
    """A function as one call runs it, or the statements around a loop."""

    file: _File
    node: ast.AST
    given: Mapping[str, tuple[ast.expr, _Frame]]
    """Parameter -> what the call hands it, with the frame of the call."""


def divides_rows(modules: Iterable[Module], lines: Mapping[str, Container[int]]) -> Place | None:
    """Return where every forward with a gradient is given a share of each row that is one of as many as there are ranks."""
    files = [_File(each.path, each.tree, lines[each.path]) for each in modules]
    if not any(_goes_around(file) for file in files):
        return None
    forwards = [each for file in files for each in _forwards(file)]
    if not forwards:
        return None
    for call, frame in forwards:
        tokens = argument_of(call, 0, "input_ids")
        if tokens is None or _Rows(files).share(tokens, frame) != 1:
            return None
    call, frame = forwards[0]
    return Place("script", frame.file.path, unparse(call.func), call.lineno)


def _goes_around(file: _File) -> bool:
    """Tell whether a running line calls attention of the ring's package."""
    imported = {
        alias.asname or alias.name
        for node in walk(file.tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == RING
        for alias in node.names
        if alias.name.endswith(f"{RING}_func")
    }
    return any(
        isinstance(node, ast.Call) and last_name(node.func) in imported
        for node in walk(file.tree)
        if getattr(node, "lineno", 0) in file.lines
    )


def _forwards(file: _File) -> Iterator[tuple[ast.Call, _Frame]]:
    """Yield the calls of a model in loops that take the gradient, each with the function around it."""
    for outer in walk(file.tree):
        if not isinstance(outer, (ast.FunctionDef, ast.Module)):
            continue
        for loop in _own(outer):
            if not isinstance(loop, (ast.For, ast.While)) or not goes_back(loop.body):
                continue
            for node in walk(loop):
                runs = getattr(node, "lineno", 0) in file.lines
                if runs and runs_model(node):
                    yield node, _Frame(file, outer, {})


def _own(outer: ast.FunctionDef | ast.Module) -> Iterator[ast.AST]:
    """Yield the nodes of a function that are in no function inside it."""
    waiting: list[ast.AST] = list(outer.body)
    while waiting:
        node = waiting.pop()
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node
            waiting += ast.iter_child_nodes(node)


class _Rows:
    """Follows rows through names, calls and dictionaries, each of which has one running value."""

    def __init__(self, files: Sequence[_File]) -> None:
        self.files = files
        self.left = _MOST_STEPS

    def share(self, node: ast.expr, frame: _Frame) -> Fraction:
        """Return how much of a row an expression is, in shares of one rank; 0 where that is not read."""
        node, frame = self._made(node, frame)
        if isinstance(node, ast.Call) and last_name(node.func) in ("cat", "concat") and node.args:
            parts = getattr(node.args[0], "elts", [])
            shares = [self.share(part, frame) for part in parts]
            is_read = all(shares) and self._is_along(node, 1, frame)
            return sum(shares, Fraction()) if is_read else Fraction()
        if not isinstance(node, ast.Subscript) or isinstance(node.slice, (ast.Slice, ast.Tuple)):
            return Fraction()
        chunks, frame = self._made(node.value, frame)
        if not isinstance(chunks, ast.Call) or last_name(chunks.func) != "chunk":
            return Fraction()
        position = int(unparse(chunks.func) == "torch.chunk")
        if len(chunks.args) <= position or not self._is_along(chunks, position + 1, frame):
            return Fraction()
        per_rank = self._per_rank(chunks.args[position], frame)
        return Fraction(1, per_rank) if per_rank else Fraction()

    def _is_along(self, call: ast.Call, position: int, frame: _Frame) -> bool:
        """Tell whether a call works along the tokens of a row."""
        said = argument_of(call, position, "dim")
        return said is not None and unparse(self._made(said, frame)[0]) in _ROW

    def _per_rank(self, node: ast.expr, frame: _Frame) -> int:
        """Return how many times the number of ranks an expression is; 0 where it is something else."""
        node, frame = self._made(node, frame)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
            for times, ranks in ((node.left, node.right), (node.right, node.left)):
                if isinstance(times, ast.Constant) and isinstance(times.value, int):
                    return times.value * self._per_rank(ranks, frame)
            return 0
        if isinstance(node, ast.Call):
            is_whole = not (node.args or node.keywords)  # no group of some ranks
            return int(is_whole and last_name(node.func) == "get_world_size")
        return int(isinstance(node, ast.Attribute) and node.attr == "num_processes")

    def _made(self, node: ast.expr, frame: _Frame) -> tuple[ast.expr, _Frame]:
        """Return the expression that makes a value, behind names, calls and dictionaries, with its frame."""
        while self.left > 0:
            self.left -= 1
            behind = self._behind(node, frame)
            if behind is None:
                break
            node, frame = behind
        return node, frame

    def _behind(self, node: ast.expr, frame: _Frame) -> tuple[ast.expr, _Frame] | None:
        if isinstance(node, ast.Name):
            return _assigned(node.id, frame)
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
            held, inner = self._made(node.value, frame)
            entries = zip(held.keys, held.values, strict=True) if isinstance(held, ast.Dict) else ()
            for key, value in entries:
                if isinstance(key, ast.Constant) and key.value == node.slice.value:
                    return value, inner
            return None
        if not isinstance(node, ast.Call):
            return None
        if isinstance(node.func, ast.Attribute):
            return (node.func.value, frame) if node.func.attr in _SAME_ROWS else None
        return self._returned(node, frame)

    def _returned(self, call: ast.Call, frame: _Frame) -> tuple[ast.expr, _Frame] | None:
        """Return what a function of the repository gives back, where one running line says it."""
        own = _functions(call, frame.file)
        found = own or [each for file in self.files for each in _functions(call, file)]
        if len(found) != 1 or any(isinstance(each, ast.Starred) for each in call.args):
            return None
        file, function = found[0]
        names = [each.arg for each in function.args.args]
        given = {name: (value, frame) for name, value in given_to(function, call).items()}
        inner = _Frame(file, function, given)
        defaults = function.args.defaults
        for name, value in zip(names[len(names) - len(defaults) :], defaults, strict=True):
            given.setdefault(name, (value, inner))
        returns = [
            node.value
            for node in walk(function)
            if isinstance(node, ast.Return) and node.lineno in file.lines
        ]
        return (returns[0], inner) if len(returns) == 1 and returns[0] is not None else None


def _functions(call: ast.Call, file: _File) -> list[tuple[_File, ast.FunctionDef]]:
    """Return the functions of a file that a call may mean and that run."""
    return [
        (file, node)
        for node in file.tree.body
        if isinstance(node, ast.FunctionDef)
        and node.name == last_name(call.func)
        and may_run(node.body, file.lines)
    ]


def _assigned(name: str, frame: _Frame) -> tuple[ast.expr, _Frame] | None:
    """Return what a name holds in a function: what its one running assignment gives it, or the call."""
    running = [node for node in walk(frame.node) if getattr(node, "lineno", 0) in frame.file.lines]
    stored = [
        node
        for node in running
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id == name
    ]
    if not stored:
        return frame.given.get(name)
    values = [
        node.value for node in running if isinstance(node, ast.Assign) and node.targets == stored
    ]
    return (values[0], frame) if values else None
