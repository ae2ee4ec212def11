"""A script and the files of its repository that it imports, read once for one launch."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from preflight.launch import LaunchCommand, LaunchPlan
from preflight.lazy_pattern import lazy_pattern
from preflight.scripts.python.imported_files import LIBRARIES
from preflight.scripts.python.package_folders import package_folders
from preflight.scripts.python.trees import source_of

MOST_FILES = 40
MOST_CHARACTERS = 1_000_000
"""Of one file: more of either is no training script, and what it would say stays open."""

IMPORT = lazy_pattern(
    r"^[ \t]*(?:from[ \t]+([.\w]+)[ \t]+import\b[ \t]*(\(?[^#\n]*)|import[ \t]+([\w., \t]+))", re.M
)


class _Walk:
    """A script's files as far as they were read for one launch, which asks for them four times."""

    def __init__(self, command: LaunchCommand, script: str) -> None:
        self.command, self.script = command, script
        self.read: list[tuple[str, str]] = []
        self.rest = _walk(command, script)
        self.stamps: list[tuple[int, int]] = []

    def is_of(self, command: LaunchCommand, script: str) -> bool:
        """Tell whether these are the files of a launch, and none has changed since."""
        is_same = self.command is command and self.script == script
        return is_same and self.stamps == [self._stamp(path) for path, _ in self.read]

    def more(self) -> bool:
        """Read the next file; tell whether there is one."""
        found = next(self.rest, None)
        if found is not None:
            self.read.append(found)
            self.stamps.append(self._stamp(found[0]))
        return found is not None

    def _stamp(self, path: str) -> tuple[int, int]:
        try:
            status = os.stat(self.command.resolve(path))
        except OSError:
            return 0, 0
        return status.st_mtime_ns, status.st_size


_LAST: list[_Walk] = []


def repository_files(command: LaunchCommand, script: str) -> Iterator[tuple[str, str]]:
    """Yield a script and the files of its repository that it imports, directly or through others; each is read once."""
    if not _LAST or not _LAST[0].is_of(command, script):
        _LAST[:] = [_Walk(command, script)]
    walk = _LAST[0]
    for position in range(MOST_FILES + 1):
        if position == len(walk.read) and not walk.more():
            return
        yield walk.read[position]


def _walk(command: LaunchCommand, script: str) -> Iterator[tuple[str, str]]:
    path = command.script_file(script)
    root = os.path.dirname(path)
    waiting, seen = [path], {path}
    for _ in range(MOST_FILES):
        if not waiting:
            return
        path = waiting.pop(0)
        try:
            text = source_of(command, path)
        except (OSError, UnicodeDecodeError):
            continue
        if len(text) > MOST_CHARACTERS:
            continue
        yield path, text
        for other in _imported(command, path, root, text):
            if other not in seen:
                seen.add(other)
                waiting.append(other)


def repository_text(plan: LaunchPlan) -> str:
    """Return the training script and what it imports of its repository; empty where not all of it can be read.

    For rules of the form "nothing in the script calls this": a thin script that calls another file's main says nothing
    of it itself, and a file of this folder is no library's own script (`axolotl train` beside a train.py).
    """
    command, index = plan.command, plan.script_facts.index
    is_here = not plan.script_facts.is_of_library
    if command is None or index is None or index >= len(command.argv) or not is_here:
        return ""
    texts = [text for _, text in repository_files(command, command.argv[index])]
    return "\n".join(texts) if len(texts) < MOST_FILES else ""


def _imported(command: LaunchCommand, path: str, root: str, text: str) -> Iterator[str]:
    """Yield the files that a file imports, as far as they lie in its folder, the script's or the launch's."""
    for match in IMPORT.finditer(text):
        package, names, modules = match.groups()
        if modules:
            wanted = [name.split()[0] for name in modules.split(",") if name.split()]
        else:
            wanted = [package, *(f"{package}.{name}" for name in re.findall(r"\w+", names or ""))]
        for module in wanted:
            if module.partition(".")[0] in LIBRARIES:
                continue
            dots = len(module) - len(module.lstrip("."))
            parts = [part for part in module.split(".") if part]
            folders = [*package_folders(command, root, module), os.path.dirname(path)]
            if dots:
                folders = [
                    os.path.normpath(os.path.join(os.path.dirname(path), *[".."] * (dots - 1)))
                ]
            for folder in dict.fromkeys(folders):
                base = os.path.join(folder, *parts)
                found = next(
                    (
                        f
                        for f in (f"{base}.py", os.path.join(base, "__init__.py"))
                        if command.exists(f)
                    ),
                    None,
                )
                if found is not None:
                    yield os.path.normpath(found)
                    break
