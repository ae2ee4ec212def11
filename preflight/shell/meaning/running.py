"""What builtins and programs see of the reader that follows a script: state, input, output, and other texts to follow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from preflight.shell.grammar.text import EMPTY, Part, Text, Unknown, Value, known
from preflight.shell.meaning.state import State

Status = bool | None
"""Whether a command succeeds; None: not known."""
OUTPUT = Unknown("")
"""What a program prints that is not known; whoever asks for it gives it a name."""


class Leave(Exception):
    """`exit`, `return`, `break` or `continue`."""

    def __init__(self, kind: str, status: Status = None, levels: int = 1) -> None:
        self.kind = kind
        self.status = status
        self.levels = levels


class Input:
    """What comes in on standard input, line by line."""

    def __init__(self, text: Text) -> None:
        self.text = text
        self.at = 0

    def line(self, end: str = "\n") -> tuple[Text, bool] | None:
        """Return the next line and whether its end was there; None behind the last. Not known where the text is not."""
        whole = self.text.known
        if whole is None:
            return self.text, True
        if self.at >= len(whole):
            return None
        stop = whole.find(end, self.at) if end else -1
        start, self.at = self.at, len(whole) if stop < 0 else stop + 1
        return known(whole[start : len(whole) if stop < 0 else stop]), stop >= 0

    def rest(self) -> Text:
        """Return all that has not been read."""
        whole = self.text.known
        if whole is None:
            return self.text
        start, self.at = self.at, len(whole)
        return known(whole[start:])


class Streams(Protocol):
    """Where a script that is being followed reads and writes."""

    state: State
    input: Input | None
    out: list[Part] | None
    """None: to the job's log."""


class Running(Streams, Protocol):
    """A script that is being followed."""

    goes_on: bool

    def print(self, text: Text) -> None:
        """Write to standard output."""

    def print_unknown(self) -> None:
        """Write to standard output what is not known."""

    def run(self, argv: list[Text], own: Mapping[str, Value] | None = None) -> Status:
        """Do what a command does."""

    def follow_text(self, text: Text) -> Status:
        """Follow a text in this shell."""

    def subshell(self) -> AbstractContextManager[None]:
        """Let what is followed work on a copy of the state."""


def argument(argv: Sequence[Text], index: int) -> Text:
    """Return one word of a command; empty where it has fewer."""
    return argv[index] if index < len(argv) else EMPTY
