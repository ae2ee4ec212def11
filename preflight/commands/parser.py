"""What a command line takes: argparse, with help that fits a terminal and complaints in the shape of every other one."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NoReturn

from preflight.commands import COMMANDS
from preflight.errors import BadInput
from preflight.near_names import nearest
from preflight.streams import is_terminal

OF_OTHER_TOOLS = (
    ("--json", "--format", "--format json"),
    ("--sarif", "--format", "--format sarif"),
    ("--html", "--report", "--report FILE.html"),
    ("--gpu", "--device", "--device"),
    ("--gpus", "--device", "--device"),
    ("--card", "--device", "--device"),
    ("--device", "--gpu", "--gpu"),
    ("--model", "--set", "--set model=NAME"),
    ("--dry-run", "--no-rewrite", "--no-rewrite, or `preflight check`, which starts nothing"),
    ("--no-color", "--color", "--color never"),
)
"""An option as other tools call it, the option of ours that does it, and what to type where a command has that."""


class HelpShown(Exception):
    """What was asked for, help or a version, has been printed: there is nothing else to do."""


class Parser(argparse.ArgumentParser):
    """The arguments of one command."""

    def __init__(self, name: str, about: str, usage: str, epilog: str = "") -> None:
        super().__init__(
            prog=f"preflight {name}".strip(),
            usage=usage,
            description=about,
            epilog=epilog,
            formatter_class=_formatter(WRITTEN_WIDTH),
            allow_abbrev=False,
        )
        self.color = False  # Python 3.14 would color help by itself

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Return the options as attributes; raise BadInput for wrong ones, HelpShown after help."""
        options, unknown = self.parse_known_args(args, namespace)
        if unknown:
            self._refuse(f"unrecognized arguments: {' '.join(unknown)}", self._meant(unknown[0]))
        return options

    def actions(self) -> Iterator[tuple[str, argparse.Action]]:
        """Yield every spelling of every option."""
        yield from self._option_string_actions.items()

    def options_with_value(self) -> Iterator[str]:
        """Yield the spellings of the options that take one value."""
        yield from (spelling for spelling, action in self.actions() if action.nargs is None)

    def format_help(self) -> str:
        """Return help of one width in pipes and the documentation, narrower on a narrower terminal."""
        if not is_terminal(sys.stdout):
            return super().format_help()
        from preflight.commands.help_width import fitted
        from preflight.render.page import page_for

        width = page_for(sys.stdout).width
        self.formatter_class = _formatter(min(WRITTEN_WIDTH, width))
        return fitted(super().format_help(), width)

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        raise HelpShown

    def error(self, message: str) -> NoReturn:
        self._refuse(message)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is None or value in action.choices:
            return
        choices = tuple(map(str, action.choices))
        name = "/".join(action.option_strings) or action.metavar or action.dest
        wrong = f"{name} must be one of {', '.join(choices)}, not {value!r}"
        self._refuse(wrong, nearest(str(value), choices))

    def _refuse(self, message: str, near: str = "") -> NoReturn:
        fix = f"`{self.prog} --help` shows the options"
        raise BadInput.one(message, fix=f"did you mean {near}; {fix}" if near else fix)

    def _meant(self, word: str) -> str:
        """Return the option of this command that an unknown one stands for: of other tools, or misspelt."""
        name = word.partition("=")[0]
        known = tuple(self._option_string_actions)
        for theirs, option, ours in OF_OTHER_TOOLS:
            if name == theirs and option in known:
                return ours
        return nearest(name, known) if name.startswith("--") else ""


WRITTEN_WIDTH = 90
"""Of options in the documentation, in a pipe, and on a terminal that has the room; paragraphs are up to a word wider."""


def _formatter(width: int) -> Callable[..., argparse.HelpFormatter]:
    # Without a width, argparse imports shutil to ask for the terminal's.
    return partial(argparse.RawDescriptionHelpFormatter, max_help_position=26, width=width)


def parser_of(command: str) -> Parser:
    """Return what a command takes, by its name."""
    parser: Parser = importlib.import_module(f"preflight.commands.{COMMANDS[command][0]}").parser(
        command
    )
    return parser
