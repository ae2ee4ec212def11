"""Launches that stand in a clone of a repository: in its scripts and job files, its documents, docstrings, configs and envelopes."""

from __future__ import annotations

import ast
import os
import re
import shlex
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from preflight.envelopes.all import ENDINGS, WORKFLOWS
from preflight.shell.blocks import with_placeholders
from preflight.shell.starters.program_names import is_python, program_name
from preflight.shell.starters.wrapper_options import OPTIONS, SHELLS
from preflight.studies.launch_files import LAUNCHER, SHELL_ENDINGS, found_in, started_in, text_of

DOCUMENTS = (".md", ".mdx", ".rst")
NOT_LOOKED_INTO = frozenset(["node_modules", "site-packages", "third_party", "venv"])
PROMPT = re.compile(r"^(?:\$|>>>|!|%%bash)\s*")
COMMENT = re.compile(r"^\s*#+ ?", re.MULTILINE)
FILES = re.compile(r"[\w./-]+\.(?:json|ya?ml)\b")
"""Files that a config names: it is started where they are."""
OF_NOBODY = frozenset({"$HOME", "${HOME}"})
"""Unknown words that say nothing of a launch: the folder where data and checkpoints lie."""
PLACEHOLDER = re.compile(r"<[\w -]+>|\.\.\.|\bYOUR_|your[-_/]|/?path[_/-]?to|--help\b")
"""What a document writes where a reader puts something of their own, or asks: no launch stands there."""


TRAINS = re.compile(r"\w*trainer\.train$")
"""The call of a script that trains when Python runs it; `model.train()` is none."""


class Launch(NamedTuple):
    """One launch of a clone, and the folder where its files are."""

    repository: str
    where: str
    """File and line."""
    argv: tuple[str, ...]
    env: dict[str, str]
    folder: Path


def files_of(clone: Path) -> Iterator[Path]:
    """Yield the files of a clone that are its own."""
    for root, folders, names in os.walk(clone):
        folders[:] = sorted(
            name
            for name in folders
            if name == WORKFLOWS or (name[0] != "." and name not in NOT_LOOKED_INTO)
        )
        yield from (Path(root, name) for name in sorted(names))


def launches_of(clone: Path) -> Iterator[Launch]:
    """Yield every launch of a clone whose words can be told, one that stands twice once."""
    seen = set()
    for path in files_of(clone):
        configs = list(of_config(path))
        for line, text in (*texts_of(path), *configs):
            files = FILES.findall(text_of(str(path))) if (line, text) in configs else ()
            is_whole = line == 1 and path.suffix in (*SHELL_ENDINGS, *ENDINGS)
            is_whole = is_whole and text == text_of(str(path))
            name = str(path if is_whole else path.with_name("launch.sh"))
            for found in found_in(name, text, str(clone)):
                words = " ".join(found.argv)
                if found.untold or set(found.unknown) - OF_NOBODY or PLACEHOLDER.search(words):
                    continue
                if not starts_program(found.argv):
                    continue  # a sentence that names a launcher
                named = (*found.argv, *files)
                folder = Path(found.cwd) if found.cwd else folder_of(clone, path, named)
                key = (found.argv, tuple(sorted(found.env.items())), folder)
                if key not in seen:
                    seen.add(key)
                    where = f"{path.relative_to(clone)}:{line + found.line - 1}"
                    yield Launch(clone.name, where, found.argv, dict(found.env), folder)


def own_scripts(clone: Path) -> Iterator[Launch]:
    """Yield the scripts of a clone that train when Python runs them, started by their path from the top."""
    for path in files_of(clone):
        if path.suffix == ".py" and not path.is_symlink() and trains_itself(text_of(str(path))):
            name = str(path.relative_to(clone))
            yield Launch(clone.name, f"{name}:1", ("python", name), {}, clone)


def trains_itself(text: str) -> bool:
    """Tell whether a script calls `trainer.train()` where it is run: at its top, or in a function that its top calls."""
    if ".train()" not in text:
        return False
    with suppress(SyntaxError, ValueError, RecursionError):
        parts = ast.parse(text).body
        names = {part.name: part for part in parts if isinstance(part, ast.FunctionDef)}
        top = [part for part in parts if not isinstance(part, ast.FunctionDef | ast.ClassDef)]
        called = [names[call] for part in top for call in calls_in(part) if call in names]
        return any(TRAINS.match(call) for part in (*top, *called) for call in calls_in(part))
    return False


def calls_in(part: ast.AST) -> Iterator[str]:
    """Yield what is called anywhere in a part of a script, as it is written."""
    yield from (ast.unparse(node.func) for node in ast.walk(part) if isinstance(node, ast.Call))


def starts_program(argv: tuple[str, ...]) -> bool:
    """Tell whether a command begins with a launcher, with Python, or with a wrapper that preflight knows."""
    name = program_name(argv[0])
    is_launcher = LAUNCHER.match(" ".join((name, *argv[1:]))) is not None
    is_wrapper = any(f"{' '.join(argv)} ".startswith(f"{wrapper} ") for wrapper in OPTIONS)
    return is_launcher or is_python(argv[0]) or name in OPTIONS or is_wrapper or name in SHELLS


def texts_of(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line and text of everything in a file that a shell may be given."""
    if path.is_symlink() or not path.is_file():
        return
    if path.suffix in SHELL_ENDINGS:
        yield 1, text_of(str(path))
    elif path.suffix in DOCUMENTS or path.name.startswith("README"):
        yield from examples_in(text_of(str(path)))
    elif path.suffix == ".py":
        text = text_of(str(path))
        with suppress(SyntaxError, ValueError, RecursionError):
            documented = ast.get_docstring(ast.parse(text), clean=False)
            if documented:
                yield from examples_in(documented, every_line=True)
    elif path.suffix in ENDINGS:
        yield 1, text_of(str(path))
        header = re.match(r"(?:\s*#.*\n|\s*\n)*", text_of(str(path)))
        if header is not None:
            yield from examples_in(COMMENT.sub("", header[0]), every_line=True)


def of_config(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the command that a launcher's own config is started with, told by its keys."""
    if path.suffix not in (".yaml", ".yml") or path.is_symlink() or not path.is_file():
        return
    keys = set(re.findall(r"^([a-z_]+):", text_of(str(path)), re.MULTILINE))
    if "base_model" in keys and keys & {"datasets", "pretraining_dataset"}:
        yield 1, f"axolotl train {shlex.quote(str(path))}"
    elif {"stage", "model_name_or_path", "do_train"} <= keys:
        yield 1, f"llamafactory-cli train {shlex.quote(str(path))}"


def examples_in(text: str, *, every_line: bool = False) -> Iterator[tuple[int, str]]:
    """Yield the fenced and the indented examples of a document; where it is prose of code, its lines one by one."""
    held: list[str] = []
    start, is_fenced = 0, False
    for number, line in enumerate([*text.split("\n"), ""], 1):
        is_fence = line.strip().startswith(("```", "~~~"))
        belongs = is_fenced or every_line or line.startswith(("    ", "\t"))
        if is_fence or not belongs or (not line.strip() and not is_fenced):
            if held:
                yield start, "\n".join(held)
            held, is_fenced = [], is_fenced != is_fence
            continue
        start = start if held else number
        goes_on = bool(held) and held[-1].endswith("\\") and line[:1].isspace()
        told = with_placeholders(PROMPT.sub("", line.strip()))
        held.append(" " * goes_on + told)  # a word of its own
    if held:
        yield start, "\n".join(held)


def folder_of(clone: Path, path: Path, argv: tuple[str, ...]) -> Path:
    """Return where a launch is meant to be started; where no folder around its file has one that it names, it is the one
    folder of the clone that has every one of them."""
    place = started_in(str(clone), str(path.relative_to(clone)), argv)
    if place is not None:
        return Path(place)
    files = [
        os.path.normpath(word.rpartition("=")[2])
        for word in argv
        if word.endswith((".py", ".yaml", ".yml", ".json"))
        and not word.startswith("/")
        and "/" in word
    ]
    having = [
        {Path(str(found)[: -len(name)]) for found in clone.rglob(name)}
        for name in dict.fromkeys(files)
        if not name.startswith((".", "~", "/"))
    ]
    whole = set.intersection(*having) if having else set()
    return whole.pop() if len(whole) == 1 else clone
