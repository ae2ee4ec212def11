"""Names that a file gives to what it imports of a library: `from transformers import AutoModelForCausalLM as Model`.

Classes and functions of these libraries are told by their names. What stands under another one is therefore called by its own, in
the tree that is read, before anybody looks at it; so `from trl import SFTTrainer as Trainer` makes no Trainer of transformers.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable

from preflight.scripts.python.nodes import walk

LIBRARIES = frozenset(
    {"accelerate", "bitsandbytes", "copy", "datasets", "peft", "sentence_transformers", "transformers", "trl", "unsloth"}
)  # fmt: skip


def call_imports(tree: ast.Module) -> None:
    """Give what a new tree imports under another name its own, unless the file uses either name for something else too."""
    nodes = walk(tree)
    meant: dict[str, set[str]] = {}
    imported: dict[str, list[ast.alias]] = {}
    for node in nodes:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            library = _library(node)
            for each in node.names:
                meant.setdefault(each.asname or each.name, set()).add(f"{library}.{each.name}")
                if library in LIBRARIES and isinstance(node, ast.ImportFrom) and each.asname:
                    imported.setdefault(each.asname, []).append(each)
    taken = _bound(nodes) if imported else set()
    for alias, those in imported.items():
        name = those[0].name
        if len(meant[alias] | meant.get(name, set())) > 1 or {alias, name} & taken:
            continue
        for each in those:
            each.asname = None
        for node in nodes:
            if isinstance(node, ast.Name) and node.id == alias:
                node.id = name


def _library(node: ast.Import | ast.ImportFrom) -> str:
    """Return the library of which a statement imports; empty for what stands beside the file."""
    is_own = isinstance(node, ast.Import) or node.level > 0
    return "" if is_own else (getattr(node, "module", None) or "").partition(".")[0]


def _bound(nodes: Iterable[ast.AST]) -> set[str]:
    """Return the names that a file gives something by more than an import."""
    names = {node.id for node in nodes if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load)}  # fmt: skip
    names |= {node.arg for node in nodes if isinstance(node, ast.arg)}
    return names | {node.name for node in nodes if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))}  # fmt: skip
