"""Two doors that open without a command of ours: torch's entry point in launchers, and a `.pth` file at start-up.

Both are asked in every process that comes by, so what decides that there is nothing to do stands
here and imports nothing. Facts, of torch 2.13: importing torch.distributed.elastic.rendezvous loads the
entry points of the group `torchrun.handlers` (elastic/rendezvous/registry.py,
`_register_out_of_tree_handlers`) under `except Exception`, which lets SystemExit through. The import happens
in torchrun and in accelerate's multi-process path before any worker exists, but in workers and in
single-process scripts too.
"""

from __future__ import annotations

import os
import sys

from preflight.switch import MODES, said

TYPE_CHECKING = False  # as in preflight/__init__.py
if TYPE_CHECKING:
    from typing import NoReturn

CHECKED = "PREFLIGHT_CHECKED"
"""The process that was checked already: by `preflight run`, which keeps its id, or by the other door."""

LAUNCHERS = ("torchrun", "accelerate", "accelerate-launch")
LAUNCHER_MODULES = (
    "torch.distributed.run",
    "torch.distributed.launch",
    "accelerate.commands.launch",
    "accelerate.commands.accelerate_cli",
)
NEEDS_LAUNCH = ("accelerate", "accelerate.commands.accelerate_cli")
"""Programs with other commands too: `accelerate config` launches nothing."""

OTHER_LAUNCHERS = ("deepspeed", "deepspeed.pt", "deepspeed.launcher.runner")
"""Launchers that never load torch's entry points; only the file at start-up reaches them."""


def rendezvous_handler() -> object:
    """Check the launch of this process where a guard is asked for; torch calls it through the entry point.

    Raises SystemExit(78) for a launch that the guard refuses. Returns a rendezvous handler that
    refuses to be used, because torch registers whatever this returns.
    """
    argv = sys.orig_argv
    if "LOCAL_RANK" not in os.environ and is_launcher(argv) and not was_checked():
        mode = guard_mode(_folder())
        if mode:
            mark_checked()
            from preflight.embedded.guarded_launch import may_start

            if not may_start(argv, mode):
                raise SystemExit(78)
    return _no_handler


def at_startup() -> None:
    """Check the launch that this interpreter was started for; a line of a .pth file calls it.

    Site-packages are not all on sys.path yet, nothing has been imported, and SystemExit would be
    reported as a broken installation: a refused launch ends here and now.
    """
    argv = sys.orig_argv
    if "LOCAL_RANK" in os.environ or len(argv) < 2 or was_checked():
        return
    if not (is_launcher(argv) or is_launcher(argv, OTHER_LAUNCHERS) or is_training_script(argv)):
        return
    mode = guard_mode(_folder())
    if mode:
        mark_checked()
        from preflight.embedded.guarded_launch import may_start

        if not may_start(argv, mode):
            os._exit(78)


def guard_mode(folder: str) -> str:
    """Return warn or enforce where the environment, else the repository of a folder, asks for it; else nothing."""
    mode = said(os.environ)
    if mode:
        return mode if mode in MODES else ""
    way = []
    while True:
        way.append(folder)
        for name in ("preflight.toml", "pyproject.toml"):
            path = os.path.join(folder, name)
            text = _text(path, way) if os.path.isfile(path) else ""
            if text is None:
                return ""
            if text and (name == "preflight.toml" or "[tool.preflight" in text):
                # Reading it for good costs more than a process that is off should pay.
                return _mode_of_repository(way[0]) if "guard" in text else ""
        parent = os.path.dirname(folder)
        if parent == folder or os.path.exists(os.path.join(folder, ".git")):
            return ""
        folder = parent


def _text(path: str, way: list[str]) -> str | None:
    """Return a file's text, empty where it says nothing; None where a folder on the way to it has a say of its own."""
    from preflight.trust import NotTrusted, folder_distrust, read_trusted

    if any(folder_distrust(folder) for folder in way):
        return None
    try:
        return read_trusted(path).decode("utf-8")
    except (OSError, NotTrusted, UnicodeDecodeError):
        return ""


def _folder() -> str:
    try:
        return os.getcwd()
    except OSError:
        return os.sep  # it is gone; no repository says anything there


def _mode_of_repository(folder: str) -> str:
    try:
        from preflight.repository.settings import find_repository
        from preflight.streams import say

        mode = find_repository(folder).guard
    except Exception as error:
        say(f"preflight: the guard is off: {error}\n")
        return ""
    return mode if mode in MODES else ""


def is_launcher(argv: list[str], names: tuple[str, ...] = (*LAUNCHERS, *LAUNCHER_MODULES)) -> bool:
    """Tell whether a command line, interpreter first, starts one of these programs or modules."""
    at = 1
    while at < len(argv) and argv[at].startswith("-") and argv[at] != "-m":
        if argv[at] == "-c":
            return False
        at += 2 if argv[at] in ("-W", "-X") else 1
    if at < len(argv) and argv[at] == "-m":
        name, rest = "".join(argv[at + 1 : at + 2]), argv[at + 2 :]
    else:
        name, rest = os.path.basename("".join(argv[at : at + 1])), argv[at + 1 :]
    return name in names and (name not in NEEDS_LAUNCH or rest[:1] == ["launch"])


def is_training_script(argv: list[str]) -> bool:
    """Tell whether Python was started with a script that imports a library that trains."""
    at = 1
    while at < len(argv) and argv[at].startswith("-"):
        if argv[at] in ("-c", "-m"):
            return False
        at += 2 if argv[at] in ("-W", "-X") else 1
    if at >= len(argv) or not argv[at].endswith(".py") or not os.path.isfile(argv[at]):
        return False
    try:
        with open(argv[at], encoding="utf-8") as file:
            text = file.read()
    except (OSError, UnicodeDecodeError):
        return False
    return any(
        f"{word} {name}" in text
        for name in ("transformers", "trl", "accelerate", "deepspeed", "torch")
        for word in ("import", "from")
    )


def was_checked() -> bool:
    """Tell whether this process, or the launcher that started it, was checked already."""
    return os.environ.get(CHECKED, "") in (str(os.getpid()), str(os.getppid()))


def mark_checked() -> None:
    """Say in the environment that this process was checked, or is about to become what was."""
    os.environ[CHECKED] = str(os.getpid())


def _no_handler(parameters: object) -> NoReturn:
    raise ValueError("`preflight` guards launches and is no rendezvous backend")
