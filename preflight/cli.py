"""The command line: which command, who catches what, and which exit code says so."""

from __future__ import annotations

import importlib
import os
import shlex
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from preflight.commands import COMMANDS
from preflight.commands.options import (
    BAD_INPUT,
    BROKEN_PIPE,
    FAILED,
    INTERRUPTED,
    NOT_STARTED,
    add_output_options,
    first_positional,
)
from preflight.commands.parser import HelpShown, Parser
from preflight.errors import BadInput, HookFailed
from preflight.near_names import nearest_fix
from preflight.streams import protected, say
from preflight.version import __version__

STARTERS = ("run", "sbatch", "srun", "salloc")
"""Commands that become another program: stdout is that program's, and 78 says that it was not started."""

EXAMPLES = """\
examples:
  preflight check -- accelerate launch --config_file fsdp.yaml train.py --max_length 4096
  preflight run --device h100-sxm-80 -- accelerate launch train.py ...
  preflight fix --allow qlora -- accelerate launch train.py ...
  preflight estimate plan.yaml --format json

exit codes:
  0   check: fits or tight; unknown too, with a warning
  1   check, fix, estimate: does not fit
  2   bad input: flags, a file, a model that cannot be read
  3   preflight or a plugin failed
  78  run, sbatch, srun, salloc: nothing was started, whatever the reason
  In `run`, any other code is the launcher's own.

PREFLIGHT=off makes `run` start the command unchecked; PREFLIGHT_TRACE=1 prints every
hook call; NO_COLOR turns color off, FORCE_COLOR=1 on.
`preflight COMMAND --help`, or `preflight help COMMAND`, says more about one command.
"""


def main(argv: list[str] | None = None) -> int:
    """Run one command; return its exit code. In `run`, a launch that starts never returns."""
    args = list(sys.argv[1:] if argv is None else argv)
    with protected() as (out, _):
        code = _answer(args)
        sys.stdout.flush()
        if out.error is None:
            return code
        if isinstance(out.error, BrokenPipeError):
            # A reader who left hears nothing; a shell expects this code.
            return code if code == NOT_STARTED else BROKEN_PIPE
        say(f"preflight: the answer could not be written to stdout: {out.error.strerror}\n")
        return code


def _answer(args: list[str]) -> int:
    name, rest = "", args
    try:
        name, rest = _command_of(args)
        return _run_command(name, rest)
    except KeyboardInterrupt:
        return NOT_STARTED if name in STARTERS else INTERRUPTED
    except BaseException as error:
        return _failed(error, name, rest)


def _run_command(name: str, args: list[str]) -> int:
    try:
        if not name:
            _top_level(args)
        module = importlib.import_module(f"preflight.commands.{COMMANDS[name][0]}")
        run: Callable[[str, list[str]], int] = module.run
        code = run(name, args)
    except HelpShown:
        code = 0
    return code


def _command_of(args: list[str]) -> tuple[str, list[str]]:
    """Return the command's name and its arguments; output options may stand before the name."""
    at = 0
    if args[:1] == ["help"]:
        args = [*args[1:2], "--help"]
    if args and args[0] not in COMMANDS:
        at = first_positional(_top_level_parser(), args)
    if at >= len(args):
        return "", args
    name = args[at]
    if name in COMMANDS:
        return name, [*args[:at], *args[at + 1 :]]
    known = tuple(COMMANDS)
    from preflight.launchers.all import programs

    if name == "--" or os.path.basename(name) in programs():
        launch = shlex.join(args[at + 1 :] if name == "--" else args[at:])
        raise BadInput.one(
            "no command of preflight's own is given", fix=f"preflight run -- {launch}"
        )
    raise BadInput.one(
        f"there is no command {name!r}",
        fix=nearest_fix(name, known) or _with_command_first(args) or f"one of {', '.join(known)}",
    )


def _with_command_first(args: list[str]) -> str:
    """Return the command line of somebody who wrote a command's options before its name, in the right order."""
    own = args[: args.index("--")] if "--" in args else args
    at = next((at for at, word in enumerate(own) if word in COMMANDS), 0)
    moved = ["preflight", args[at], *args[:at], *args[at + 1 :]]
    return f"a command's options stand after its name: {shlex.join(moved)}" if at else ""


def _top_level_parser() -> Parser:
    listed = "\n".join(f"  {name:10} {about}" for name, (_, about) in COMMANDS.items())
    parser = Parser(
        "",
        "Check a training launch before anything is spawned: does every rank fit after\n"
        f"sharding, and if not, what would.\n\ncommands:\n{listed}",
        "preflight COMMAND [options] [-- accelerate launch ...]",
        EXAMPLES,
    )
    parser.add_argument("-V", "--version", action="version", version=f"preflight {__version__}")
    add_output_options(parser)
    return parser


def _top_level(args: list[str]) -> NoReturn:
    _top_level_parser().parse_args(args or ["--help"])
    raise BadInput.one("no command is given", fix=f"one of {', '.join(COMMANDS)}")


def _failed(error: BaseException, name: str, args: list[str]) -> int:
    """Say what went wrong and return the exit code for it."""
    if _stands_nowhere(error):
        error = BadInput.one(
            "the folder that this command was started in is gone",
            fix="start it from one that is there: cd to its new place",
        )
    if os.environ.get("PREFLIGHT_TRACE") == "1" and not isinstance(error, BadInput):
        import traceback

        traceback.print_exception(error)
    from preflight.commands.output import print_json, print_lines
    from preflight.render import problems

    if isinstance(error, BadInput):
        code, lines = BAD_INPUT, problems.problem_lines(error.problems)
        value: Any = problems.bad_input_to_dict(error)
    elif isinstance(error, HookFailed):
        code, lines = FAILED, [f"preflight: {error}"]
        lines.append("  fix  PREFLIGHT_TRACE=1 prints every hook call, and the traceback")
        value = problems.hook_failed_to_dict(error)
    else:
        code = FAILED
        lines = [f"preflight: {type(error).__name__}: {error}; this is a bug in preflight"]
        lines.append("  fix  PREFLIGHT_TRACE=1 prints the traceback to report it with")
        value = problems.bug_to_dict(error)
    if name in STARTERS:
        way_on = "" if code == BAD_INPUT else "; PREFLIGHT=off starts it unchecked"
        code = NOT_STARTED
        lines.append(f"next: nothing was started{way_on}")
    if _wants_json(args):
        # In run, stdout belongs to the training script.
        print_json(value, sys.stderr if name in STARTERS else sys.stdout)
    else:
        print_lines(lines, sys.stderr)
    return code


def _stands_nowhere(error: BaseException | None) -> bool:
    """Tell whether an error is of a working folder that somebody has removed."""
    while error is not None and not isinstance(error, FileNotFoundError):
        error = error.__cause__
    try:
        os.getcwd()
    except FileNotFoundError:
        return error is not None
    return False


def _wants_json(args: list[str]) -> bool:
    """Tell whether `--format json` was asked for, where the arguments may be the very problem."""
    own = " ".join(args[: args.index("--")] if "--" in args else args)
    return "--format json" in own or "--format=json" in own


if __name__ == "__main__":
    sys.exit(main())
