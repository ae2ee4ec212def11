"""What the names and columns of one function may hold of tokens: what statements set, add to, make rows of and give back.

Nothing is evaluated here; every statement counts, in whatever branch it stands.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from copy import deepcopy

from preflight.lazy_pattern import lazy_pattern
from preflight.scripts.python.nodes import children, last_name, names_in, unparse, walk
from preflight.scripts.settings.answer_lengths import IDS

TAKES_COLUMNS = frozenset({"dict", "update"})
"""Functions and methods that are given the columns of a row by their names; so are classes."""
GIVE_TOKENS = frozenset(
    {
        "tensor", "LongTensor", "as_tensor", "array", "asarray", "from_numpy", "clone", "long", "to", "astype", "tolist",
        "list", "copy", "contiguous", "detach", "squeeze",
    }
)  # fmt: skip
"""Functions and methods that give the tokens of one row as they are."""
KEEP_TOKENS = GIVE_TOKENS | {
    "tuple", "deepcopy", "unsqueeze", "flatten", "cuda", "stack", "pad_sequence", "zip", "enumerate", "items", "values",
    "numpy", "reversed", "pop", "tqdm",
}  # fmt: skip
"""Functions and methods that give tokens as they are, or each of several rows."""
_ASKS_LENGTH = lazy_pattern(r"\blen\(|\bshape\b|\bsize\(")
Held = list[tuple[ast.expr, "ast.AST | None"]]
"""Values, each with the loop that its statement stands in."""


class TokenNames:
    """The statements of one function that tokens may pass through."""

    def __init__(self, body: Sequence[ast.stmt]) -> None:
        self.set: dict[str, Held] = {}
        """Name, or column as it is written -> what it is set to."""
        self.added: dict[str, Held] = {}
        """The same -> what is put behind what it holds."""
        self.owners: dict[str, ast.expr] = {}
        """Column as it is written -> what it is a column of."""
        self.conditional: set[int] = set()
        """Ids of values that a condition sets which does not ask for a length."""
        self.rows: list[ast.expr] = []
        """What is given a row as its tokens."""
        self.given_back: list[ast.expr] = []
        for statement in body:
            self._note(statement, None)

    def bind(self, target: ast.expr, source: ast.expr) -> None:
        """Keep what a loop gives its names: `for one, other in zip(ones, others)`."""
        targets = target.elts if isinstance(target, ast.Tuple) else [target]
        sources = [source] * len(targets)
        if isinstance(source, ast.Call) and last_name(source.func) == "zip":
            sources = list(source.args)
        for each, given in zip(targets, sources, strict=False):
            if isinstance(each, ast.Name):
                held = self.set.setdefault(each.id, [])
                if all(given is not other for other, _ in held):
                    held.append((given, None))

    def _note(self, node: ast.AST, loop: ast.AST | None) -> None:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            return
        if isinstance(node, ast.Assign):
            for target in node.targets:
                self._set(target, node.value, loop)
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            self._set(node.target, node.value, loop)
        elif isinstance(node, ast.AugAssign) and isinstance(node.op, ast.Add):
            self._hold(self.added, node.target, node.value, loop)
        elif isinstance(node, (ast.Return, ast.Yield)) and node.value is not None:
            self.given_back.append(node.value)
        elif isinstance(node, ast.Call):
            self._note_call(node, loop)
        elif isinstance(node, ast.Dict):
            pairs = zip(node.keys, node.values, strict=True)
            self.rows += [v for k, v in pairs if isinstance(k, ast.Constant) and k.value == IDS]
        elif isinstance(node, ast.DictComp):  # every column the same way
            self.bind(node.generators[0].target, node.generators[0].iter)
            self.rows.append(node.value)
        elif isinstance(node, ast.For):
            self.bind(node.target, node.iter)
            each_column = _for_tokens(node)
            if each_column:
                for statement in each_column:
                    self._note(statement, loop)  # once for a column: it is no loop of the tokens
                return
        elif isinstance(node, ast.If) and not _ASKS_LENGTH.search(unparse(node.test)):
            inside = (each for part in (*node.body, *node.orelse) for each in walk(part))
            self.conditional.update(
                id(each.value) for each in inside if isinstance(each, ast.Assign)
            )
        inner = node if isinstance(node, (ast.For, ast.While)) else loop
        for child in children(node):
            self._note(child, inner)

    def _note_call(self, node: ast.Call, loop: ast.AST | None) -> None:
        name = last_name(node.func)
        if isinstance(node.func, ast.Attribute) and node.args and name in ("append", "extend"):
            held = self.added if name == "extend" else self.set  # one more of several rows
            self._hold(held, node.func.value, node.args[0], loop)
        if name in TAKES_COLUMNS or name[:1].isupper():
            self.rows += [k.value for k in node.keywords if k.arg == IDS]

    def _set(self, target: ast.expr, value: ast.expr, loop: ast.AST | None) -> None:
        if not isinstance(target, (ast.Tuple, ast.List)):
            self._hold(self.set, target, value, loop)
        elif isinstance(value, (ast.Tuple, ast.List)):
            for each, part in zip(target.elts, value.elts, strict=False):
                self._set(each, part, loop)

    def _hold(
        self, held: dict[str, Held], target: ast.expr, value: ast.expr, loop: ast.AST | None
    ) -> None:
        name, column = place_of(target), _column_of(target)
        if column is not target and isinstance(target, ast.Subscript):  # one row of several
            if isinstance(loop, ast.For) and unparse(target.slice) in names_in(loop.target):
                loop = None
            else:
                self.conditional.add(id(value))
        if name:
            held.setdefault(name, []).append((value, loop))
        if name and isinstance(column, (ast.Subscript, ast.Attribute)):
            self.owners[name] = column.value
            self.rows.append(target)


def _for_tokens(loop: ast.For) -> list[ast.stmt]:
    """Return what a loop over the columns of rows does with the one of tokens, `for k in row: row[k] = row[k][:N]`; nothing
    of a loop over anything else."""
    over, targets = loop.iter, getattr(loop.target, "elts", [loop.target])
    if isinstance(over, ast.Call) and last_name(over.func) == "list" and over.args:
        over = over.args[0]
    method = over.func if isinstance(over, ast.Call) else None
    key = unparse(targets[0])
    inside = [each for part in loop.body for each in walk(part) if isinstance(each, ast.Subscript)]
    indexed = {unparse(each.value) for each in inside if unparse(each.slice) == key}
    listed = over.elts if isinstance(over, (ast.List, ast.Tuple, ast.Set)) else ()
    are_columns = (
        (isinstance(method, ast.Attribute) and method.attr in ("keys", "items"))
        or any(isinstance(each, ast.Constant) and each.value == IDS for each in listed)
        or unparse(over) in indexed
    )
    if not (indexed and are_columns):
        return []
    of_tokens = _OfTokens(key, unparse(targets[-1]))
    if isinstance(method, ast.Attribute) and method.attr == "items":
        of_tokens.owner = method.value
    return [of_tokens.visit(deepcopy(each)) for each in loop.body]


class _OfTokens(ast.NodeTransformer):
    """Puts the column of tokens where a key, or what `items()` gives with it, stands for any column."""

    owner: ast.expr | None = None
    """What `items()` is asked of."""

    def __init__(self, key: str, value: str) -> None:
        self.key, self.value = key, value

    def visit_Name(self, node: ast.Name) -> ast.expr:
        if node.id == self.key:
            return ast.copy_location(ast.Constant(IDS), node)
        if node.id == self.value and self.owner is not None:
            column = ast.Subscript(self.owner, ast.Constant(IDS), node.ctx)
            return ast.fix_missing_locations(ast.copy_location(column, node))
        return node


def bare_tokens(value: ast.expr) -> ast.expr:
    """Return what functions are given that give tokens as they are: `ids[:N]` of `torch.tensor(ids[:N])`."""
    while isinstance(value, ast.Call) and last_name(value.func) in GIVE_TOKENS:
        of_method = [value.func.value] if isinstance(value.func, ast.Attribute) else []
        inner = (value.args or of_method)[:1]
        if not inner:
            break
        value = inner[0]
    return value


def cuts_itself(name: str, value: ast.expr) -> bool:
    """Tell whether a name is set to a slice of itself, with what may stand around it."""
    value = bare_tokens(value)
    if isinstance(value, ast.BinOp) and isinstance(value.op, ast.Add):
        return cuts_itself(name, value.left) or cuts_itself(name, value.right)
    if not isinstance(value, ast.Subscript) or place_of(value.value) != name:
        return False
    return isinstance(value.slice, (ast.Slice, ast.Tuple))


def place_of(node: ast.expr) -> str:
    """Return the name of what may hold tokens, a variable or the column of a row, or of each of several; empty for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    node = _column_of(node)
    if isinstance(node, ast.Subscript):
        is_column = isinstance(node.slice, ast.Constant) and node.slice.value == IDS
    else:
        is_column = isinstance(node, ast.Attribute) and node.attr == IDS
    return unparse(node) if is_column else ""


def _column_of(node: ast.expr) -> ast.expr:
    """Return the column that one row of several is in, `batch["input_ids"][i]`, and any other expression itself."""
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Name) and not isinstance(node.value, ast.Name):  # fmt: skip
        return node.value
    return node


def adds_to(name: str, value: ast.expr) -> bool:
    """Tell whether a value puts tokens behind those of a name, or before them: `ids + more`, `[*ids, *more]`."""
    if isinstance(value, ast.BinOp):
        return speaks_of(name, value) and not (is_rows(value.left) or is_rows(value.right))
    parts = value.elts if isinstance(value, (ast.List, ast.Tuple)) else ()
    return any(isinstance(each, ast.Starred) and place_of(each.value) == name for each in parts)


def is_rows(node: ast.expr) -> bool:
    """Tell whether an expression is a list that is written out, `[ids]`: with tokens in it, one of rows."""
    is_list = isinstance(node, (ast.List, ast.Tuple))
    return is_list and not any(isinstance(each, ast.Starred) for each in ast.iter_child_nodes(node))


def speaks_of(name: str, node: ast.AST) -> bool:
    return any(place_of(each) == name for each in walk(node) if isinstance(each, ast.expr))
