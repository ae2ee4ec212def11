"""The launches that a job script makes, as they were found in it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field
from itertools import pairwise

from preflight.errors import Problem
from preflight.launchers.all import programs
from preflight.launchers.launcher_behind import starts_another
from preflight.shell.starters.program_names import TRAINS_NOTHING, called, program_name
from preflight.values import dataclass

UNREAD = ("llamafactory", "composer", "colossalai", "fabric")
"""Programs that start a training which no reader here knows."""
LAUNCHERS = (*programs(), *UNREAD)
"""Programs that start a training; `python` and what it is told to run stand beside them."""


@dataclass(frozen=True)
class ScriptLaunch:
    """One launch line of a job script, filled in as the first rank's shell would have it."""

    argv: tuple[str, ...]
    """The launcher and its arguments: `accelerate launch ...`, `python train.py ...`."""
    env: Mapping[str, str]
    cwd: str
    through: tuple[str, ...]
    """Words of the wrappers in front: `srun --nodes=2`, `apptainer exec image.sif`."""
    origin: str
    """`job.sh:42`."""
    unknown: tuple[str, ...] = ()
    """What of it only the running job can fill in, as written."""
    dropped: Mapping[str, str] = field(default_factory=dict)
    """Option -> the variable behind it that nobody has set, which leaves no word."""


def unset_variables(
    argv: Sequence[str], dropped: Mapping[str, str], problems: Iterable[Problem]
) -> tuple[str, ...]:
    """Return the variables that nobody has set, where all that is refused of a launch comes of their leaving no word: an
    option without a value, and behind it what it took for one, `--master_addr $ADDR train.py --bf16`."""
    errors = [each for each in problems if each.severity == "error"]
    refused = [each for each in errors if each.where]  # an option may take the script
    if not refused or not dropped:
        return ()
    pairs = enumerate(pairwise(argv))
    takes = (i for i, (flag, word) in pairs if flag in dropped and not word.startswith("-"))
    behind = {word.partition("=")[0] for word in argv[next(takes, len(argv)) :]}
    are_theirs = (e.where in dropped or (e.id == "PF111" and e.where in behind) for e in refused)
    return tuple(dict.fromkeys(dropped.values())) if all(are_theirs) else ()


@dataclass(frozen=True)
class ScriptReading:
    """What a job script launches, and how that was found out."""

    how: str
    """`static` (its text was read) or `nothing`."""
    launches: tuple[ScriptLaunch, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    """Absolute path -> text of the configs that the script writes before it launches."""
    reasons: tuple[str, ...] = ()
    """Why there are no launches, or what was not read."""


def is_launch(argv: Sequence[str]) -> bool:
    """Tell whether a command line starts a training, or may: a Python script does not say."""
    what = called(argv)
    if what is None or starts_another(argv):
        return False
    rest = [word for word in argv[what.first_argument :] if not word.startswith("-")]
    if what.kind == "script":
        name = program_name(what.name)
        if name in LAUNCHERS:
            return is_launch([name, *argv[what.first_argument :]])
        return what.name.endswith(".py")
    if what.kind == "module":
        return what.name.partition(".")[0] not in TRAINS_NOTHING and (
            what.name not in TRAINS_NOTHING
        )
    launcher = programs().get(what.name)
    if launcher is None:
        return what.name in UNREAD
    return not rest or rest[0] not in launcher.trains_nothing


def shown_origin(name: str, line: int) -> str:
    """Return where something stands in a script: `job.sh:42`."""
    return f"{name}:{line}" if line else name


def relative_name(path: str, folder: str) -> str:
    """Return a path as a user of a folder would say it."""
    absolute = os.path.abspath(os.path.join(folder, path))
    inside = os.path.relpath(absolute, folder)
    return absolute if inside.startswith("..") else inside
