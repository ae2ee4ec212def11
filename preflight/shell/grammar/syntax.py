"""What a shell script is made of: statements, commands, words, and the pieces of a word."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field

from preflight.shell.grammar.text import Unknown
from preflight.values import dataclass


class CannotRead(Exception):
    """The text is no script that is understood here; the message says where it ends."""


# Words


@dataclass(frozen=True)
class Literal:
    """Text outside of quotes: braces, patterns and a `~` mean something in it."""

    text: str


@dataclass(frozen=True)
class Quoted:
    """Text that stands for itself: in quotes, or behind a backslash."""

    text: str


@dataclass(frozen=True)
class Given:
    """A part of the script's own text that is not known: `bash -c "$X"` where nobody knows X."""

    unknown: Unknown
    is_quoted: bool = False


@dataclass(frozen=True)
class Double:
    """What stands in double quotes."""

    pieces: tuple[Piece, ...]


@dataclass(frozen=True)
class Parameter:
    """`$name`, `${name[index]:-word}` and their like."""

    raw: str
    name: str
    index: Word | None = None
    """`@` and `*` are words too."""
    prefix: str = ""
    """`#` for a length, `!` for a name in a variable or the keys of an array."""
    operator: str = ""
    """`:-`, `%%`, `//`, `:`, `^^`, ..."""
    argument: Word | None = None
    second: Word | None = None
    """Behind the second slash or colon."""


@dataclass(frozen=True)
class Calculation:
    """`$((...))`"""

    raw: str
    text: Word


@dataclass(frozen=True)
class Substitution:
    """`$(...)` or backquotes, and `<(...)` as a word."""

    raw: str
    body: tuple[AndOr, ...] | None
    """None: not understood."""
    is_process: bool = False


Piece = Literal | Quoted | Given | Double | Parameter | Calculation | Substitution


@dataclass(frozen=True)
class Word:
    """One word as written; `start` and `end` are its place in the text that was parsed."""

    start: int
    end: int
    raw: str
    pieces: tuple[Piece, ...]


@dataclass(frozen=True)
class Assignment:
    """`name=value`, `name+=value`, `name[index]=value` or `name=(...)`."""

    name: str
    index: Word | None
    is_added: bool
    value: Word | tuple[tuple[Word | None, Word], ...]
    """A word, or the elements of an array with the index that each names."""
    start: int
    end: int


# Commands


@dataclass(frozen=True)
class Redirection:
    """`2> file`, or a here-document with its text."""

    operator: str
    number: str
    """In front of the operator; empty for the usual one."""
    target: Word
    """The word behind it; the text of a here-document."""


@dataclass(frozen=True)
class Simple:
    """A command: assignments, words and redirections."""

    line: int
    assignments: tuple[Assignment, ...]
    words: tuple[Word | Assignment, ...]
    """Assignments are among them behind `export` and its kin."""
    redirections: Sequence[Redirection]
    """Filled in when the here-documents behind the line have been read."""
    end: int = 0


@dataclass(frozen=True)
class Group:
    """`{ ... }`, or a subshell."""

    line: int
    body: tuple[AndOr, ...]
    is_subshell: bool
    redirections: Sequence[Redirection] = ()


@dataclass(frozen=True)
class If:
    line: int
    arms: tuple[tuple[tuple[AndOr, ...] | None, tuple[AndOr, ...]], ...]
    """Condition (None for `else`) and body."""
    redirections: Sequence[Redirection] = ()


@dataclass(frozen=True)
class Loop:
    """`while` or `until`."""

    line: int
    condition: tuple[AndOr, ...]
    body: tuple[AndOr, ...]
    is_until: bool
    redirections: Sequence[Redirection] = ()


@dataclass(frozen=True)
class For:
    """`for x in ...` or `select x in ...`."""

    line: int
    name: str
    words: tuple[Word, ...] | None
    """None: over the arguments."""
    body: tuple[AndOr, ...]
    is_select: bool = False
    redirections: Sequence[Redirection] = ()


@dataclass(frozen=True)
class Count:
    """`for ((first; condition; next))`."""

    line: int
    texts: tuple[Word, Word, Word]
    body: tuple[AndOr, ...]
    redirections: Sequence[Redirection] = ()


@dataclass(frozen=True)
class Case:
    line: int
    subject: Word
    arms: tuple[tuple[tuple[Word, ...], tuple[AndOr, ...], str], ...]
    """Patterns, body, and `;;`, `;&` or `;;&`."""
    redirections: Sequence[Redirection] = ()


@dataclass(frozen=True)
class Function:
    line: int
    name: str
    body: Command


@dataclass(frozen=True)
class Test:
    """`[[ ... ]]`: operators are strings."""

    line: int
    tokens: tuple[str | Word, ...]
    redirections: Sequence[Redirection] = ()


@dataclass(frozen=True)
class Arithmetic:
    """`((...))`"""

    line: int
    text: Word
    redirections: Sequence[Redirection] = ()


Command = Simple | Group | If | Loop | For | Count | Case | Function | Test | Arithmetic


@dataclass(frozen=True)
class Pipeline:
    commands: tuple[Command, ...]
    is_negated: bool = False


@dataclass(frozen=True)
class AndOr:
    """Pipelines with what stands in front of each: nothing, `&&` or `||`."""

    pipelines: tuple[tuple[str, Pipeline], ...] = field(default=())
