"""What a repository says about its launches: the commands in its shell scripts, Makefile and README, each read."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import NamedTuple

from preflight.errors import BadInput
from preflight.launch import LaunchCommand, LaunchPlan
from preflight.plugins import load_plugins

MAX_FILES = 400
MAX_CHARACTERS = 200_000
MAX_DEPTH = 4
NOT_OURS = frozenset(["__pycache__", "build", "dist", "node_modules", "site-packages", "venv"])
SHELL_ENDINGS = (".sh", ".bash", ".sbatch", ".slurm")
LAUNCHER = re.compile(
    r"\b(?:accelerate(?:-launch)?\s+launch|accelerate-launch|torchrun|deepspeed|torch\.distributed\.(?:run|launch)"
    r"|trl\s+(?:sft|dpo|grpo|kto|reward|rloo|distillation)|tune\s+run|axolotl\s+train|llamafactory-cli\s+train)\b"
)
PYTHON = re.compile(
    r"\bpython[\d.]*\s+(?:-\S+\s+)*\S*(?:train|finetune|fine_tune|sft|dpo)\S*\.py\b"
)
GPU_ASKED = re.compile(r"--(?:gres|gpus(?:-per-\w+)?)[= ](?:gpu:)?([A-Za-z][\w.-]*)")


class Launch(NamedTuple):
    """One launch of the repository, read."""

    where: str
    line: str
    plan: LaunchPlan


class Survey(NamedTuple):
    """What was found."""

    launches: tuple[Launch, ...]
    unread: tuple[tuple[str, str], ...]
    """Place of a launch that could not be read, and why."""
    gpus: tuple[tuple[str, str], ...]
    """Place and name of a GPU that a job asks Slurm for."""


def survey(folder: str) -> Survey:
    """Read every launch that the files of a repository show."""
    plugins = load_plugins(None)
    launches: list[Launch] = []
    unread: list[tuple[str, str]] = []
    gpus: list[tuple[str, str]] = []
    seen: set[tuple[str, ...]] = set()
    from preflight.pipeline import read_launch

    for path in _files(folder):
        text = _text(os.path.join(folder, path))
        for number, line in enumerate(text.splitlines(), 1):
            asked = GPU_ASKED.search(line)
            if asked and not asked[1].isdecimal():
                gpus.append((f"{path}:{number}", asked[1]))
        for number, argv, env in _commands(path, text):
            if argv in seen:
                continue
            seen.add(argv)
            where = f"{path}:{number}"
            try:
                plan = read_launch(LaunchCommand(argv, env, folder), plugins)
            except BadInput as error:
                unread.append((where, error.problems[0].message))
                continue
            if plan is not None and (plan.launcher != "python" or plan.trainer is not None):
                launches.append(Launch(where, " ".join(argv), plan))
    return Survey(tuple(launches), tuple(unread), tuple(gpus))


def _files(folder: str) -> Iterator[str]:
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


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read(MAX_CHARACTERS)
    except (OSError, UnicodeDecodeError):
        return ""


def _commands(path: str, text: str) -> Iterator[tuple[int, tuple[str, ...], dict[str, str]]]:
    """Yield line, words and variables of every command that starts a training."""
    from preflight.dialects.shell_expansion import CannotTell
    from preflight.dialects.shell_words import parse_script

    env: dict[str, str] = {}
    for number, line in _logical_lines(path, text):
        if not (LAUNCHER.search(line) or PYTHON.search(line)):
            assigned = re.fullmatch(
                r"(?:export\s+)?([A-Za-z_]\w*)=([\w./:@+-]*|\"[^\"$`]*\"|'[^']*')", line
            )
            if assigned:
                env[assigned[1]] = assigned[2].strip("\"'")
            continue
        try:
            commands = parse_script(line, env)
        except CannotTell:
            continue
        for command in commands:
            words = " ".join(command.argv)
            if LAUNCHER.search(words) or PYTHON.search(words):
                yield number, command.argv, {}


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
