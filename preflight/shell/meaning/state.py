"""What a shell has come to: variables, arguments, functions, folder. A subshell works on a copy."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from preflight.shell.grammar.arithmetic import NoNumber, Number, evaluate
from preflight.shell.grammar.syntax import Function, Substitution
from preflight.shell.grammar.text import EMPTY, Array, Steps, Text, Value, known, not_known
from preflight.shell.meaning.files import Files

ONLY_RUNNING = ("RANDOM", "SECONDS", "BASHPID", "EPOCHSECONDS", "EPOCHREALTIME", "SRANDOM", "PPID")
BLANKS = " \t\n"
_DEEPEST_NAME = 20


@dataclass
class World:
    """What a shell and all its subshells share."""

    files: Files
    steps: Steps = field(default_factory=Steps)
    nodes: Sequence[str] = ("node-1",)
    """Of the job, for `scontrol show hostnames` and `hostname`."""
    is_partial: bool = False
    """The shell that runs the text has more variables than are known here: one that is not set is not known."""
    is_inline: bool = False
    """The text is given to a shell that a user starts: neither its arguments nor any `$(...)` are known."""
    dropped: dict[str, str] = field(default_factory=dict)
    """Word -> the variable behind it that nobody has set: the shell drops it, and an option is without its value."""
    emptied: dict[str, str] = field(default_factory=dict)
    """Variable -> the one that nobody has set and that it was set to: `export ADDR=$OTHER`."""
    output_of: Callable[[Substitution], Text] = lambda piece: not_known(piece.raw)
    """Runs what stands in `$(...)`."""


@dataclass
class State:
    """What one shell has set."""

    world: World
    values: dict[str, Value]
    exported: set[str]
    arguments: list[Text]
    functions: dict[str, Function] = field(default_factory=dict)
    exported_functions: frozenset[str] = frozenset()
    """Names of those that `export -f` hands to the shells that this one starts."""
    name: Text = field(default_factory=lambda: not_known("$0"))
    cwd: Text = EMPTY
    status: bool | None = True
    """Whether the last command succeeded; None: not known."""
    exports_all: bool = False
    """`set -a`"""
    option_place: int = 1
    """Where `getopts` is in a word such as `-vx`."""
    folders: tuple[Text, ...] = ()
    """Of pushd."""
    frames: tuple[dict[str, Value | None], ...] = ()
    """Per function that is being called: what its local variables were outside."""

    def copy(self) -> State:
        return State(
            self.world, dict(self.values), set(self.exported), list(self.arguments),
            dict(self.functions), self.exported_functions, self.name, self.cwd, self.status, self.exports_all, self.option_place,
            self.folders, self.frames,
        )  # fmt: skip

    def become(self, other: State) -> None:
        """Take over what another state, which is not used any more, has come to."""
        for name in self.__dataclass_fields__:
            setattr(self, name, getattr(other, name))

    # Variables

    def get(self, name: str) -> Value | None:
        """Return a variable's value; None where it is not set."""
        if name in self.values:
            return self.values[name]
        if self.world.is_inline and name in ("#", "?"):
            return not_known(f"${name}")
        if name == "BASH_SOURCE" or (name and not name.strip("0")):
            return self.name  # `${00}` is `$0`
        if name.isdecimal():
            index = name.lstrip("0")
            is_given = len(index) < 9 and int(index) <= len(self.arguments)
            return self.arguments[int(index) - 1] if is_given else None
        if name == "#":
            return known(str(len(self.arguments)))
        if name == "?":
            return not_known("$?") if self.status is None else known("0" if self.status else "1")
        if name == "PWD":
            return self.cwd
        if name in ("$", "!", "-", "_", *ONLY_RUNNING):
            return not_known(f"${name}")
        return None

    def text(self, name: str) -> Text:
        """Return a variable as one text; empty where it is not set."""
        value = self.get(name)
        if isinstance(value, Array):
            return value.items.get("0" if value.is_map else 0, EMPTY)
        return EMPTY if value is None else value

    def known(self, name: str) -> str:
        """Return a variable's text; empty where it is not set or not known."""
        return self.text(name).known or ""

    def set(self, name: str, value: Value) -> None:
        if isinstance(value, Text):
            self.world.steps.spend(len(value.shown) // 64)
            old = self.values.get(name)
            if isinstance(old, Array):
                value = Array({**old.items, ("0" if old.is_map else 0): value}, old.is_map)
        self.values[name] = value
        if self.exports_all:
            self.exported.add(name)

    def set_item(self, name: str, index: int | str | None, value: Text, is_added: bool) -> None:
        """Set an element of an array; with an index that is not known, nothing of the array is."""
        old = self.values.get(name)
        if index is None or (isinstance(old, Text) and old.known is None):
            self.values[name] = not_known(f"${{{name}[@]}}")
            return
        array = old if isinstance(old, Array) else Array({0: old} if old is not None else {})
        self.world.steps.spend(len(array.items) // 8)
        if not array.is_map and isinstance(index, int) and index < 0:
            index += max((int(key) for key in array.items), default=-1) + 1
        before = array.items.get(index, EMPTY) if is_added else EMPTY
        self.values[name] = Array({**array.items, index: before + value}, array.is_map)

    def unset(self, name: str) -> None:
        self.values.pop(name, None)
        self.exported.discard(name)

    def ifs(self) -> str:
        value = self.values.get("IFS")
        return BLANKS if not isinstance(value, Text) else value.known or ""

    # Numbers

    def number(self, text: Text) -> Number:
        """Return the value of an arithmetic expression; None where it is not known. Raises NoNumber."""
        expression = text.known
        if expression is None:
            return None
        self.world.steps.spend(len(expression) // 8)
        return self._evaluated(expression, 0)

    def _evaluated(self, expression: str, depth: int) -> Number:
        if depth > _DEEPEST_NAME:
            raise NoNumber(expression)

        def get(name: str, index: Number, has_index: bool) -> Number:
            value = self.get(name)
            if isinstance(value, Array):
                if index is None:
                    return None
                value = value.items.get(str(index) if value.is_map else index)
            elif has_index and index != 0 and isinstance(value, Text) and value.known is not None:
                value = None
            if value is None:
                return None if self.world.is_partial else 0
            inner = value.known
            return None if inner is None else self._evaluated(inner.replace('"', ""), depth + 1)

        def set_(name: str, index: Number, has_index: bool, value: Number) -> None:
            text = not_known(f"${name}") if value is None else known(str(value))
            if has_index:
                self.set_item(name, index, text, False)
            else:
                self.set(name, text)

        return evaluate(expression.replace('"', ""), get, set_)

    # Places

    def path(self, text: Text) -> str | None:
        """Return the absolute path of a file; None where it is not known."""
        name, folder = text.known, self.cwd.known
        if name is None or (folder is None and not name.startswith("/")):
            return None
        return os.path.normpath(os.path.join(folder or "/", name))

    def environment(self) -> dict[str, Text]:
        """Return what a program is given."""
        made = {name: self.text(name) for name in self.values if name in self.exported}
        return {**made, "PWD": self.cwd} if "PWD" in self.exported else made


def merged(before: State, states: Sequence[State]) -> State:
    """Return what is known where one of several states is the right one."""
    result = states[0].copy()
    for other in states[1:]:
        for name in {*result.values, *other.values}:
            if result.values.get(name) != other.values.get(name):
                result.values[name] = not_known(f"${name}")
        result.exported |= other.exported
        result.functions.update(other.functions)
        result.exported_functions |= other.exported_functions
        result.exports_all |= other.exports_all
        if result.arguments != other.arguments:
            result.arguments = other.arguments
        if result.cwd != other.cwd:
            # Most `cd` behind a condition lead to where the job is meant to be.
            result.cwd = other.cwd if result.cwd == before.cwd else result.cwd
    result.status = None
    return result


def state_of(
    world: World, env: Mapping[str, str], arguments: Iterable[str], cwd: str, name: Text
) -> State:
    """Return a shell as it starts."""
    values: dict[str, Value] = {key: known(value) for key, value in env.items() if key != "PWD"}
    values.pop("IFS", None)
    exported = {*values, "PWD"}
    return State(
        world, values, exported, [known(word) for word in arguments], name=name, cwd=known(cwd)
    )
