"""What a command line takes: plain options are read here, all else by argparse.

Importing argparse and building a parser takes a twentieth of a check. It is done for help, for
positional arguments, and wherever something is to be complained about.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from preflight.errors import BadInput

if TYPE_CHECKING:
    from argparse import ArgumentParser


class Declared(NamedTuple):
    """One call of `add_argument`."""

    group: str
    names: tuple[str, ...]
    settings: dict[str, Any]

    @property
    def attribute(self) -> str:
        """The attribute of the parsed options that holds its value."""
        longest = next((name for name in self.names if name.startswith("--")), self.names[0])
        return longest.lstrip("-").replace("-", "_")

    @property
    def is_plain(self) -> bool:
        """Whether this is an option without value, or with one that stays text."""
        return self.names[0].startswith("-") and self.settings.keys() <= {
            *("action", "choices", "default", "help", "metavar")
        }


class Group:
    """Options under one heading of the help."""

    def __init__(self, declared: list[Declared], title: str) -> None:
        self.declared = declared
        self._title = title

    def add_argument(self, *names: str, **settings: Any) -> None:
        """Declare an argument, in argparse's words."""
        self.declared.append(Declared(self._title, names, settings))


class Parser(Group):
    """The arguments of one command."""

    def __init__(self, name: str, about: str, usage: str, epilog: str = "") -> None:
        super().__init__([], "")
        self.prog = f"preflight {name}".strip()
        self._about, self._usage, self._epilog = about, usage, epilog

    def add_argument_group(self, title: str) -> Group:
        """Return a group whose options stand under a heading of their own."""
        return Group(self.declared, title)

    def parse_args(self, args: list[str]) -> Any:
        """Return the options as attributes; raise BadInput for wrong ones, SystemExit after help."""
        options = self._plain_options(args)
        return self._argparse().parse_args(args) if options is None else options

    def print_help(self) -> None:
        self._argparse().print_help()

    def options_with_value(self) -> Iterator[str]:
        """Yield the spellings of the options that take a value."""
        for declared in self.declared:
            settings = declared.settings
            if settings.get("action") in (None, "append") and "nargs" not in settings:
                yield from (name for name in declared.names if name.startswith("-"))

    def _plain_options(self, args: list[str]) -> SimpleNamespace | None:
        """Return what argparse would, or None where it has to be asked."""
        if not all(declared.is_plain for declared in self.declared):
            return None
        known = {name: declared for declared in self.declared for name in declared.names}
        values: dict[str, Any] = {
            d.attribute: d.settings.get("default", False if "action" in d.settings else None)
            for d in self.declared
        }
        rest = iter(args)
        for name in rest:
            if name not in known:
                return None
            declared = known[name]
            action, attribute = declared.settings.get("action"), declared.attribute
            if action == "store_true":
                values[attribute] = True
                continue
            value = next(rest, "-")
            if action not in (None, "append") or value.startswith("-") or not value:
                return None
            if value not in declared.settings.get("choices", (value,)):
                return None
            values[attribute] = [*values[attribute], value] if action else value
        return SimpleNamespace(**values)

    def _argparse(self) -> ArgumentParser:
        import argparse
        import sys

        from preflight.commands.help_width import WRITTEN_WIDTH, fitted
        from preflight.render.page import page_for

        of_terminal = page_for(sys.stdout).width if sys.stdout.isatty() else None
        width = min(WRITTEN_WIDTH, of_terminal or WRITTEN_WIDTH)

        class HelpFormatter(argparse.RawDescriptionHelpFormatter):
            """Help of one width in pipes and the documentation, narrower on a narrower terminal."""

            def __init__(self, prog: str) -> None:
                super().__init__(prog, max_help_position=26, width=width)

        class Complaining(argparse.ArgumentParser):
            """argparse, with its complaints in the shape of every other one."""

            def format_help(self) -> str:
                text = super().format_help()
                return text if of_terminal is None else fitted(text, of_terminal)

            def error(self, message: str) -> NoReturn:
                raise BadInput.one(message, fix=f"`{self.prog} --help` shows the options")

        parser = Complaining(
            prog=self.prog,
            usage=self._usage,
            description=self._about,
            epilog=self._epilog,
            formatter_class=HelpFormatter,
            allow_abbrev=False,
        )
        groups: dict[str, Any] = {"": parser}
        for declared in self.declared:
            if declared.group not in groups:
                groups[declared.group] = parser.add_argument_group(declared.group)
            groups[declared.group].add_argument(*declared.names, **declared.settings)
        return parser
