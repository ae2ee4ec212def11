"""What the files of a script read by name, and where each name is called or read."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Mapping

from preflight.lazy_pattern import lazy_pattern
from preflight.scripts.python.nodes import children, last_name, walk

WORDS = lazy_pattern(r"\w+")
_DECLARES = ("add_argument", "field", "Field")


class Uses:
    """What stands where in the files of a script: the same for every object that is followed through them."""

    def __init__(self, trees: Mapping[str, ast.Module]) -> None:
        self.above: dict[int, ast.AST] = {}
        """Identity of a node -> the one that it stands in."""
        self.words: set[str] = set()
        """Attributes that are read, and words of texts."""
        self.calls: dict[str, list[tuple[str, ast.Call]]] = defaultdict(list)
        self.reads: dict[str, list[tuple[str, ast.expr]]] = defaultdict(list)
        """Last part of a name -> file, and where it is called, or read."""
        for path, tree in trees.items():
            self._note(path, tree)

    def _note(self, path: str, tree: ast.Module) -> None:
        for node in walk(tree):
            for inner in children(node):
                self.above[id(inner)] = node
            is_read = isinstance(getattr(node, "ctx", None), ast.Load)
            if isinstance(node, ast.Call):
                self.calls[last_name(node.func)].append((path, node))
            elif isinstance(node, (ast.Name, ast.Attribute)):
                if is_read and not self._is_called(node):
                    self.reads[last_name(node)].append((path, node))
                if is_read and isinstance(node, ast.Attribute):
                    self.words.add(node.attr)
            elif isinstance(getattr(node, "value", None), str) and not self._is_declared(node):
                self.words.update(WORDS.findall(node.value))  # type: ignore[attr-defined]

    def _is_called(self, node: ast.AST) -> bool:
        above = self.above.get(id(node))
        return isinstance(above, ast.Call) and above.func is node

    def _is_declared(self, node: ast.AST) -> bool:
        """Tell whether a text only declares an option, describes it, or is a docstring."""
        above = self.above.get(id(node))
        while isinstance(
            above, (ast.keyword, ast.Dict, ast.Call, ast.BinOp, ast.JoinedStr, ast.Tuple, ast.List)
        ):
            if isinstance(above, ast.Call) and last_name(above.func) in _DECLARES:
                return True
            above = self.above.get(id(above))
        return isinstance(above, ast.Expr)
