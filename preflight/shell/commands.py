"""The simple commands of a short shell text, each word with its place, so that some words can be written again.

For `bash -c TEXT` and launch lines of files: lists (`&&`, `||`, `;`, `|`, newlines), assignments and `cd`.
Loops, conditions, functions and subshells are refused, because words of a command that runs more than
once, or maybe not at all, cannot be written again for one launch.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence

from preflight.shell.grammar.parser import DECLARING, parse
from preflight.shell.grammar.syntax import (
    Arithmetic,
    Assignment,
    CannotRead,
    Case,
    Command,
    Count,
    Double,
    For,
    Function,
    Group,
    If,
    Literal,
    Loop,
    Piece,
    Simple,
    Substitution,
    Test,
    Word,
)
from preflight.shell.grammar.text import Text, TooManySteps, known, not_known
from preflight.shell.meaning.builtins import CONDAS, activate, activates, source
from preflight.shell.meaning.declarations import declare
from preflight.shell.meaning.expansion import expand, text_of
from preflight.shell.meaning.files import Files
from preflight.shell.meaning.state import World, state_of
from preflight.shell.reader import Reader
from preflight.values import dataclass

MAX_COMMANDS = 400
"""In one `bash -c`; each sees what all before it have set."""
_NAMES: dict[type, str] = {
    If: "`if`",
    For: "`for`",
    Count: "`for`",
    Loop: "`while`",
    Case: "`case`",
    Test: "`[[`",
    Function: "a subshell or a function",
    Arithmetic: "a subshell or a function",
}


class CannotTell(Exception):
    """The text says something that only a shell can follow; the message names it."""


@dataclass(frozen=True)
class ShellWord:
    """One word of the text: where it stands, and the words that it becomes."""

    start: int
    end: int
    texts: tuple[str, ...]
    """One text, or several (or none) where an unquoted variable holds spaces (or nothing)."""
    unknown: tuple[str, ...]
    """Variables, commands and patterns in it that only the running shell can fill in."""


@dataclass(frozen=True)
class ShellCommand:
    """One simple command, with the variables and the folder that it starts with."""

    words: tuple[ShellWord, ...]
    env: Mapping[str, str]
    """Exported variables and those of this command alone; `$NAME` where the value is not known here."""
    assigned: frozenset[str]
    """Names that the text itself sets for this command."""
    folder: str
    """Where `cd` led so far, relative to where the shell starts; empty for there."""
    end: int
    """Where an added word goes."""
    line: int

    @property
    def argv(self) -> tuple[str, ...]:
        return tuple(text for word in self.words for text in word.texts)

    @property
    def unknown(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for word in self.words for name in word.unknown))


def parse_script(text: str, env: Mapping[str, str]) -> tuple[ShellCommand, ...]:
    """Return the simple commands of a script in order; raise CannotTell where it is more than a list of them."""
    try:
        tree = parse(known(text))
        listed = _Lister(env)
        for statement in tree:
            for _, pipeline in statement.pipelines:
                for command in pipeline.commands:
                    listed.add(command)
    except CannotRead as error:
        raise CannotTell(str(error)) from None
    except TooManySteps:
        raise CannotTell("a text that is so long") from None
    return tuple(listed.commands)


class _Lister:
    """Goes from command to command with what the shell knows by then."""

    def __init__(self, env: Mapping[str, str]) -> None:
        world = World(Files(opens=False), is_partial=True, is_inline=True)
        self.state = state_of(world, env, (), env.get("PWD", ""), not_known("$0"))
        if "PWD" not in env:
            self.state.cwd = not_known("$PWD")
            self.state.exported.discard("PWD")
        self.reader = Reader(self.state, lambda reader, argv, own: None)
        self.assigned: set[str] = set()
        self.folder = ""
        self.commands: list[ShellCommand] = []

    def add(self, command: Command) -> None:
        """Add a command, and let it change what the next one starts with."""
        if not isinstance(command, Simple):
            is_braces = isinstance(command, Group) and not command.is_subshell
            raise CannotTell("`{`" if is_braces else _NAMES.get(type(command), "a subshell or a function"))  # fmt: skip
        if any(one.operator == "<<" for one in command.redirections):
            raise CannotTell("a here-document")
        own: dict[str, Text] = {}
        for one in command.assignments:
            own[one.name] = self.value(one)
        if not command.words:
            for name, value in own.items():
                self.state.set(name, value)
            self.assigned |= own.keys()
            return
        if len(self.commands) >= MAX_COMMANDS:
            raise CannotTell(f"a list of more than {MAX_COMMANDS} commands")
        words = tuple(self.word(word) for word in command.words)
        values = {**self.state.environment(), **own}
        env = {name: value.shown for name, value in values.items()}
        assigned = frozenset((self.assigned & self.state.exported) | own.keys())
        made = ShellCommand(words, env, assigned, self.folder, command.end, command.line)
        self.commands.append(made)
        self.do(command, made)

    def value(self, one: Assignment) -> Text:
        """Return what is assigned; a variable that is set to something unknown is set all the same."""
        if not isinstance(one.value, Word) or one.index is not None:
            raise CannotTell("an array")
        text = text_of(one.value, self.state)
        if one.is_added:
            text = self.state.text(one.name) + text
        return text if text.known is not None else not_known(f"${one.name}")

    def word(self, word: Word | Assignment) -> ShellWord:
        if isinstance(word, Assignment):
            value = self.value(word)
            text = known(f"{word.name}{'+' if word.is_added else ''}=") + value
            return ShellWord(word.start, word.end, (text.shown,), text.unknown)
        pieces = list(_pieces(word.pieces))
        if any(isinstance(piece, Substitution) and piece.is_process for piece in pieces):
            raise CannotTell("a process substitution")
        texts = expand([word], self.state)
        unknown = [source for text in texts for source in text.unknown]
        if any(
            isinstance(piece, Literal) and set(piece.text) & set("*?[") for piece in word.pieces
        ):
            unknown.append(word.raw)
        return ShellWord(word.start, word.end, tuple(text.shown for text in texts), tuple(unknown))

    def do(self, command: Simple, made: ShellCommand) -> None:
        """Do what a builtin does to variables and folder."""
        argv, state = made.argv, self.state
        if not argv:
            return
        name = argv[0]
        if name in DECLARING:
            declare(self.reader, name, command.words[1:])
            for word in argv[1:]:
                variable, equals, _ = word.partition("=")
                variable = variable.removesuffix("+")
                if equals and state.text(variable).known is None:
                    state.set(variable, not_known(f"${variable}"))
                self.assigned |= {variable} if equals else set()
        elif name == "unset":
            for variable in argv[1:]:
                state.unset(variable)
        elif name == "set" and ("-a" in argv or "allexport" in argv):
            raise CannotTell("`set -a`")
        elif name in ("cd", "pushd"):
            folders = [word for word in argv[1:] if word != "--"]
            if len(folders) != 1 or made.unknown or folders[0] == "-":
                raise CannotTell(f"`{' '.join(argv)}`")
            self.folder = os.path.join(self.folder, folders[0])
            state.cwd = known(os.path.normpath(os.path.join(state.cwd.known or "", folders[0])))
            state.exported.add("PWD")
        elif activates(argv):
            run = activate if name in CONDAS else source
            run(self.reader, [known(word) for word in argv])
        elif name == "popd" or (name == "eval" and not made.unknown and not _is_one(argv[1:])):
            raise CannotTell(f"`{name}`")


def _is_one(words: Sequence[str]) -> bool:
    """Tell whether the words of an `eval` are one command, which sets nothing for those behind it."""
    statements = parse(known(" ".join(words)))
    found = [c for each in statements for _, pipeline in each.pipelines for c in pipeline.commands]
    if len(found) != 1 or not isinstance(found[0], Simple) or not found[0].words:
        return False
    first = found[0].words[0]
    return isinstance(first, Word) and first.raw not in (*DECLARING, "cd", "set", "unset", "eval")


def _pieces(pieces: Sequence[Piece]) -> Iterator[Piece]:
    for piece in pieces:
        yield piece
        if isinstance(piece, Double):
            yield from _pieces(piece.pieces)
