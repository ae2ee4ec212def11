"""Files in which launches stand, and the commands in them: shell scripts, Makefiles, and the examples of a README."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import NamedTuple

from preflight.launchers.all import launch_pattern

MAX_FILES = 400
MAX_CHARACTERS = 200_000
MAX_DEPTH = 4
NOT_OURS = frozenset(["__pycache__", "build", "dist", "node_modules", "site-packages", "venv"])
SHELL_ENDINGS = (".sh", ".bash", ".sbatch", ".slurm")
LAUNCHER = re.compile(launch_pattern())
PYTHON = re.compile(
    r"\bpython[\d.]*\s+(?:-\S+\s+)*\S*(?:train|finetune|fine_tune|sft|dpo)\S*\.py\b"
)
ASSIGNED = re.compile(r"(export\s+)?([A-Za-z_]\w*)=([\w./:@+-]*|\"[^\"$`]*\"|'[^']*')")
ARGUMENTS_OF_SCRIPT = ("$@", "${@}", "$*", "${*}")
"""What whoever starts the script adds; without them it is the launch as the repository has it."""


def launch_files(folder: str) -> Iterator[str]:
    """Yield shell scripts, Makefiles and READMEs, relative to the folder, at most MAX_FILES."""
    count = 0
    for root, folders, names in os.walk(folder):
        depth = os.path.relpath(root, folder).count(os.sep) + (root != folder)
        folders[:] = sorted(
            name
            for name in folders
            if depth < MAX_DEPTH and not name.startswith(".") and name not in NOT_OURS
        )
        for name in sorted(names):
            is_wanted = (
                name.endswith(SHELL_ENDINGS) or name == "Makefile" or name.startswith("README")
            )
            if is_wanted and os.path.isfile(os.path.join(root, name)) and count < MAX_FILES:
                count += 1
                yield os.path.relpath(os.path.join(root, name), folder)


def text_of(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read(MAX_CHARACTERS)
    except (OSError, UnicodeDecodeError):
        return ""


def commands_in(path: str, text: str) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Yield line and words of every command of a file that starts a training, as far as its lines can be read."""
    for found in found_in(path, text):
        if not found.untold:
            yield found.line, found.argv


class FoundCommand(NamedTuple):
    """A command that starts a training, where it was found."""

    line: int
    argv: tuple[str, ...]
    env: Mapping[str, str]
    """Variables in front of it, and those that the file has set by then."""
    unknown: tuple[str, ...] = ()
    """Variables in its words whose value only a shell knows, as they are written."""
    untold: str = ""
    """Why the words cannot be told; they are those of the line then."""
    device: str = ""
    """What `preflight run --device` in front of the command names."""


def found_in(path: str, text: str) -> Iterator[FoundCommand]:
    """Yield every command of a file that starts a training."""
    from preflight.shell.commands import CannotTell, parse_script

    env: dict[str, str] = {}
    exported: dict[str, str] = {}
    for number, line in _logical_lines(path, text):
        if not (LAUNCHER.search(line) or PYTHON.search(line)):
            assigned = ASSIGNED.fullmatch(line)
            if assigned:
                env[assigned[2]] = assigned[3].strip("\"'")
                if assigned[1]:
                    exported[assigned[2]] = env[assigned[2]]
            continue
        if line.startswith("#"):
            continue
        try:
            commands = parse_script(line, env)
        except CannotTell as error:
            yield FoundCommand(number, tuple(line.split()), {}, untold=str(error))
            continue
        for command in commands:
            argv = tuple(word for word in command.argv if word not in ARGUMENTS_OF_SCRIPT)
            words = " ".join(argv)
            if argv[:1] == ("exec",):
                argv = argv[1:]
            if LAUNCHER.search(words) or PYTHON.search(words):
                own = {n: v for n, v in command.env.items() if n in command.assigned}
                unknown = tuple(n for n in command.unknown if n not in ARGUMENTS_OF_SCRIPT)
                argv, device = _behind_preflight(argv)
                yield FoundCommand(number, argv, {**exported, **own}, unknown, device=device)


def _behind_preflight(argv: tuple[str, ...]) -> tuple[tuple[str, ...], str]:
    """Return the launch of a line such as `preflight run --device h100-sxm-80 -- accelerate launch`, and its device."""
    if os.path.basename(argv[0]) != "preflight" or "--" not in argv:
        return argv, ""
    at = argv.index("--")
    device = ""
    for word, value in pairwise(argv[:at]):
        if word == "--device":
            device = value
        elif value.startswith("--device="):
            device = value.removeprefix("--device=")
    return argv[at + 1 :], device


def _logical_lines(path: str, text: str) -> Iterator[tuple[int, str]]:
    """Yield first line number and text of every line, continuations joined; of Markdown the fenced ones alone."""
    is_markdown = os.path.basename(path).startswith("README")
    is_makefile = os.path.basename(path) == "Makefile"
    in_fence = False
    held, first = "", 0
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip()
        if is_markdown and line.startswith(("```", "~~~")):
            in_fence = not in_fence
            held = ""
            continue
        if is_markdown and not in_fence:
            continue
        if is_makefile:
            line = (
                line.lstrip("@-+").replace("$(", "${").replace(")", "}")
                if "$(" in line
                else line.lstrip("@-+")
            )
        first = first if held else number
        held += line.removeprefix("$ ").removesuffix("\\")
        if line.endswith("\\"):
            held += " "
            continue
        yield first, held.strip()
        held = ""
