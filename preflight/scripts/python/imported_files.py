"""Which files of its repository a script imports, and what each import gives: followed through packages, two levels at most."""

from __future__ import annotations

import ast
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence

from preflight.launch import LaunchCommand
from preflight.scripts.python.nodes import unparse
from preflight.scripts.python.package_folders import package_folders
from preflight.scripts.python.scope import Scope
from preflight.scripts.python.trees import defined_in, file_of, read_tree

LIBRARIES = frozenset(
    {
        "accelerate",
        "datasets",
        "deepspeed",
        "liger_kernel",
        "olmo_core",
        "peft",
        "sentence_transformers",
        "torch",
        "transformers",
        "trl",
        "unsloth",
        "vllm",
    }
)
"""What a script imports by these names is a library, in a checkout of that library too: it has every trainer's name."""

MAX_IMPORTED_FILES = 12


class ImportedFiles(ABC):
    """The files that a script leads to by its imports."""

    def __init__(self, command: LaunchCommand) -> None:
        self.command = command
        self.modules: dict[str, Scope] = {}
        self.imports: dict[str, dict[str, tuple[str, str]]] = {}
        """File -> name in it -> the file of the repository that it is imported from, and its name there."""
        self.libraries: dict[str, dict[str, str]] = {}
        """File -> name in it -> dotted name of what is imported from elsewhere: `trl.SFTConfig`."""

    @abstractmethod
    def _load(self, path: str, tree: ast.Module, depth: int, hands_on: bool = True) -> None:
        """Read a file; `hands_on` says that none of those which lead to it makes what trains."""

    def _import(
        self,
        path: str,
        node: ast.Import | ast.ImportFrom,
        wanted: set[str] | None,
        next_depth: int,
        hands_on: bool,
    ) -> None:
        """Note what an import gives, and load its file; without `wanted` every one, else what gives these names."""
        if isinstance(node, ast.Import):
            targets = [(alias.name, alias.asname or alias.name, "") for alias in node.names]
        else:
            module = "." * node.level + (node.module or "")
            targets = [(module, alias.asname or alias.name, alias.name) for alias in node.names]
        for module, local, name in targets:
            is_library = module.partition(".")[0] in LIBRARIES
            is_left = is_library or (wanted is not None and local.partition(".")[0] not in wanted)
            found = None if is_left else self._file_of(path, module)
            if found is None:
                if not module.startswith("."):
                    self.libraries[path][local] = f"{module}.{name}" if name else module
                continue
            if name and name != "*":
                found, name = defined_in(self.command, found, name, self._file_of)
            self.imports[path][local] = (found, name)
            self._follow(found, next_depth, hands_on)

    def _follow_dotted(self, path: str, nodes: Sequence[ast.AST], depth: int) -> None:
        """Load what a file calls, stands on or has parsed as `pkg.utils.Arguments`, and note it under that name."""
        classes = [base for node in nodes if isinstance(node, ast.ClassDef) for base in node.bases]
        calls = [node for node in nodes if isinstance(node, ast.Call)]
        classes += [each for call in calls for a in call.args for each in getattr(a, "elts", ())]
        if self.imports[path]:
            for each in (*classes, *(call.func for call in calls)):
                dotted = unparse(each) if isinstance(each, ast.Attribute) else ""
                held = self.imports[path].get(dotted.partition(".")[0])
                if not dotted or held is None or held[1] or dotted in self.imports[path]:
                    continue
                file, name = held
                for part in dotted.split(".")[1:]:
                    if name:
                        break  # an attribute of something that is no module
                    file, name = defined_in(self.command, file, part, self._file_of)
                else:
                    self.imports[path][dotted] = (file, name)
                    self._follow(file, depth)

    def _follow(self, path: str, depth: int, hands_on: bool = False) -> None:
        """Load a file of the repository, if it can be read and is not too much."""
        if path in self.modules or len(self.modules) > MAX_IMPORTED_FILES:
            return
        tree = read_tree(self.command, path)
        if tree is not None:
            self._load(path, tree, depth, hands_on)

    def is_here(self, path: str, module: str) -> bool:
        """Tell whether a module that a file imports is a file beside it, or of a folder where the launch looks."""
        return self._file_of(path, module) is not None

    def _file_of(self, path: str, module: str) -> str | None:
        """Return the file that a module's name means; a package may lie beside the script or above its folder."""
        folder = os.path.dirname(path)
        level = len(module) - len(module.lstrip("."))
        for _ in range(level - 1):
            folder = os.path.join(folder, "..")
        folders = [folder] if level else package_folders(self.command, folder, module)
        return file_of(self.command, folders, module.lstrip("."))
