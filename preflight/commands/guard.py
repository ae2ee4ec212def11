"""`guard`: which launches an installed preflight checks by itself, and the file that adds those of one process."""

from __future__ import annotations

import os
import sys
import sysconfig

from preflight.commands.options import FITS, add_output_options
from preflight.commands.output import print_json, print_lines
from preflight.commands.parser import Parser
from preflight.embedded.guard_doors import guard_mode
from preflight.errors import BadInput
from preflight.files import readable_text
from preflight.report import SCHEMA_VERSION
from preflight.switch import VARIABLE, said, unknown_word

EPILOG = """\
A guard is off unless PREFLIGHT=warn or PREFLIGHT=enforce is in the environment, or `guard` is in
the repository's [tool.preflight] or preflight.toml. Then torchrun and `accelerate launch` with
several processes are checked in the launcher, before any worker exists. `--install` writes one
file into this environment, which Python reads whenever it starts: it adds `accelerate launch` with
one process, `deepspeed`, and `python train.py`.

examples:
  preflight guard
  preflight guard --install
  PREFLIGHT=enforce accelerate launch --config_file fsdp.yaml train.py

exit: 0 done, or nothing to do; 2 the file cannot be written or is not ours
"""

FILE_NAME = "preflight-guard.pth"
LINE = (
    'import sys; sys.orig_argv[1:2] in ([], ["-c"]) or exec("try:\\n from preflight.embedded.guard_doors import at_startup\\n'
    'except ImportError:\\n pass\\nelse:\\n at_startup()")'
    " # preflight guard --remove takes this file away\n"
)
"""Python runs a line of a .pth file that begins with `import`; an environment without preflight is left alone, and what
starts no file or module is let through before anything is imported."""


def parser(name: str) -> Parser:
    """Return what the command takes."""
    parser = Parser(
        name,
        "Show what an installed preflight checks by itself, and install or remove the file that\n"
        "adds launches of one process.",
        "preflight guard [--install | --remove] [options]",
        EPILOG,
    )
    parser.add_argument("--install", action="store_true", help=f"write {FILE_NAME}")
    parser.add_argument("--remove", action="store_true", help="take it away again")
    add_output_options(parser)
    return parser


def run(name: str, args: list[str]) -> int:
    """Show which guards hold here, or install or remove the one of single-process launches."""
    options = parser(name).parse_args(args)
    if options.install and options.remove:
        raise BadInput.one("--install and --remove are opposites", fix="give one of them")
    path = os.path.join(sysconfig.get_path("purelib"), FILE_NAME)
    done = ""
    if options.install:
        done = f"wrote {path}" if _write(path) else f"{path} was there already"
    elif options.remove:
        done = f"removed {path}" if _remove(path) else f"there is no {path}"
    mode, reason = guard_mode(os.getcwd()) or "off", _reason()
    is_installed = os.path.isfile(path)
    if options.format == "json":
        value = {"mode": mode, "reason": reason, "file": path, "is_installed": is_installed}
        print_json({"schema_version": SCHEMA_VERSION, "done": done, **value}, sys.stdout)
        return FITS
    single = "checked" if is_installed else "not reached; `preflight guard --install` adds them"
    from preflight.render.page import page_for

    page = page_for(sys.stdout, options.color)
    several, one = ("off", "off") if mode == "off" else ("checked", single)
    lines = [f"preflight: {done}"] if done else []
    lines += [f"preflight: the guard is {mode} here ({reason})"]
    for text in (
        f"torchrun, accelerate launch with several processes  {several}",
        f"one process, deepspeed, python train.py             {one}",
    ):
        lines += page.wrap(text, "  ", "    ")
    lines += [f"next: {_next(mode)}"]
    print_lines(lines, sys.stdout)
    return FITS


def _reason() -> str:
    word = said(os.environ)
    if word:
        return unknown_word(os.environ) or f"{VARIABLE}={os.environ[VARIABLE].strip()}"
    from preflight.repository.settings import find_repository

    repository = find_repository(os.getcwd())
    if repository.guard != "off":
        return repository.place("guard")
    return "; ".join(repository.left_alone) or "nothing asks for it"


def _next(mode: str) -> str:
    if mode == "enforce":
        return "a launch that does not fit is refused with exit code 78"
    if mode == "warn":
        return "a launch that does not fit is told, and starts all the same"
    return 'PREFLIGHT=enforce, or guard = "enforce" in preflight.toml, turns it on'


def _write(path: str) -> bool:
    """Write the file; return False where it is there already."""
    try:
        with open(path, "x", encoding="utf-8") as file:
            file.write(LINE)
    except FileExistsError:
        _raise_unless_ours(path)
        return False
    except OSError as error:
        raise BadInput.of(path, f"cannot be written: {error.strerror}") from error
    return True


def _remove(path: str) -> bool:
    """Remove the file; return False where there is none."""
    if not os.path.lexists(path):
        return False
    _raise_unless_ours(path)
    try:
        os.unlink(path)
    except OSError as error:
        raise BadInput.of(path, f"cannot be removed: {error.strerror}") from error
    return True


def _raise_unless_ours(path: str) -> None:
    if "preflight.embedded.guard_doors" not in readable_text(path):
        raise BadInput.of(path, "is not the file that preflight writes, and is left alone")
