"""The parser of a training script: the options that it declares, every name that it takes, and what it does with others."""

from __future__ import annotations

from collections.abc import Mapping

from preflight.values import dataclass

NONE, ONE, OPTIONAL, MANY = "none", "one", "optional", "many"
"""How many words behind it an option takes."""

REFUSED, DROPPED, NOT_KNOWN = "refused", "dropped", ""
"""What becomes of a name that the parser does not have; NOT_KNOWN too where the script is handed it."""


@dataclass(frozen=True)
class OwnOption:
    """How argparse reads one option string of the script's own."""

    name: str
    """Of the argument, underscored: the first long option string, or the dataclass's field."""
    takes: str
    bare: object = True
    """The value without a word behind it."""


@dataclass(frozen=True)
class OwnParser:
    """What is known of a script's parser before any of it is run."""

    options: Mapping[str, OwnOption]
    """Option string -> the argument of the script's own; those of a library's dataclass are in its table."""
    names: frozenset[str] | None
    """Every argument; None where the parser takes more than can be read."""
    has_aliases: bool
    """Some arguments of dataclasses have option strings of another spelling."""
    flags: str
    config: str
    """Keys of TrlParser's `--config`."""
    json_file: str
    """Keys of a file that stands in place of the flags."""
    yaml_file: str
    parameters: frozenset[str] = frozenset()
    """Of the functions that fire, typer or click calls from the command line."""

    @property
    def declared(self) -> frozenset[str]:
        """Return the names that it surely takes."""
        own = self.parameters.union(option.name for option in self.options.values())
        return own if self.names is None else own | self.names
