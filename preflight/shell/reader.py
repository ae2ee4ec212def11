"""A shell script followed line by line without a process being started: the one reader of shell text.

    reader = Reader(state, starter)
    reader.follow(parse(text))

It goes through the statements as bash would, with what is known. A condition that is not known splits
the way: each side is followed from the same state, and what the sides disagree on is not known behind
them. Programs are not run: those of `tools` say what they would print, and every other is handed to the
`starter`, which looks for launches in it. Every step counts, so that no script takes long.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from preflight.shell.grammar.parser import DECLARING, parse
from preflight.shell.grammar.syntax import CannotRead, Function, Simple, Substitution, Word
from preflight.shell.grammar.text import Array, Text, Value, known, not_known, text_of_parts
from preflight.shell.meaning.assignments import assign, own_values
from preflight.shell.meaning.builtins import BUILTINS, CONDAS, activate
from preflight.shell.meaning.conditions import bracket_holds
from preflight.shell.meaning.declarations import declare
from preflight.shell.meaning.expansion import expand
from preflight.shell.meaning.flow import Flow
from preflight.shell.meaning.redirections import redirected
from preflight.shell.meaning.running import OUTPUT, Leave, Status, argument
from preflight.shell.meaning.state import State
from preflight.shell.programs.tools import TOOLS
from preflight.shell.starters.python_probes import devices_counted

Starter = Callable[["Reader", list[Text], Mapping[str, Text]], Status]
"""Looks for launches in a command with variables of its own, and returns whether it succeeds."""


class Reader(Flow):
    """What following a script has come to."""

    def __init__(
        self, state: State, starter: Starter, goes_on: bool = False, explores: bool = False
    ) -> None:
        super().__init__(state, goes_on, explores)
        self.starter = starter
        self.called: set[str] = set()
        """Functions that something has called."""
        self.substituted: Status = True
        """How the last `$(...)` ended."""
        state.world.output_of = self.output_of

    # Simple commands

    def simple(self, command: Simple) -> Status:
        words = command.words
        with redirected(self, command.redirections):
            if not words:
                self.substituted = True
                for one in command.assignments:
                    assign(self.state, one)
                reads = any(one.operator == "<" for one in command.redirections)
                if reads and not command.assignments and self.input is not None:
                    self.print(self.input.rest())  # $(< file)
                return self.substituted
            if isinstance(words[0], Word) and words[0].raw in DECLARING:
                return declare(self, words[0].raw, words[1:])
            argv = expand([word for word in words if isinstance(word, Word)], self.state)
            if not argv:
                for one in command.assignments:
                    assign(self.state, one)
                return self.substituted
            return self.run(argv, own_values(self.state, command.assignments))

    @contextmanager
    def own(self, values: Mapping[str, Value]) -> Iterator[None]:
        """Let a command have variables of its own."""
        before = {name: self.state.values.get(name) for name in values}
        self.state.values.update(values)
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    self.state.values.pop(name, None)
                else:
                    self.state.values[name] = value

    def run(self, argv: list[Text], own: Mapping[str, Value] | None = None) -> Status:
        """Do what a command does, as far as that is known."""
        name = argv[0].known
        own = own or {}
        if name is not None and name in self.state.functions:
            with self.own(own):
                return self.call(self.state.functions[name], argv[1:])
        if name in ("[", "test"):
            words = argv[1:-1] if name == "[" else argv[1:]
            return bracket_holds(words, self.state)
        if name in BUILTINS:
            if name in ("exec", "command", "builtin"):
                return BUILTINS[name](self, argv)
            with self.own(own):
                return BUILTINS[name](self, argv)
        if name in TOOLS:
            with self.own(own):
                return self.tool(argv)
        with self.own(own):
            if (devices := devices_counted(argv, self.state)) is not None:
                self.print(devices)
                return True
        if name in CONDAS and argument(argv, 1).known == "activate":
            return activate(self, argv)
        texts = {key: self.state.text(key) if isinstance(v, Array) else v for key, v in own.items()}
        return self.starter(self, argv, texts)

    def tool(self, argv: list[Text]) -> Status:
        """Print what a program that only reads and prints would."""
        output, status = TOOLS[argv[0].known or ""](self, argv)
        self.print(output)
        return status

    def call(self, function: Function, arguments: list[Text]) -> Status:
        state = self.state
        self.called.add(function.name)
        before = state.arguments
        state.arguments = arguments
        state.frames = (*state.frames, {})
        self.depth += 1
        try:
            self.check_depth()
            return self.command(function.body)
        except Leave as leave:
            if leave.kind != "return":
                raise
            return leave.status
        finally:
            self.depth -= 1
            state = self.state
            state.arguments = before
            *frames, own = state.frames
            state.frames = tuple(frames)
            for name, value in own.items():
                if value is None:
                    state.values.pop(name, None)
                else:
                    state.values[name] = value

    # Input and output

    def print(self, text: Text) -> None:
        if self.out is not None:
            self.state.world.steps.spend(len(text.shown) // 64)
            self.out += text.parts

    def print_unknown(self) -> None:
        if self.out is not None:
            self.out.append(OUTPUT)

    def output_of(self, piece: Substitution) -> Text:
        """Return what `$(...)` stands for, or the path that stands for the output of `<(...)`."""
        if piece.body is None or self.state.world.is_inline:
            return not_known(piece.raw)
        out, self.out = self.out, []
        line = self.line
        try:
            with self.subshell():
                self.substituted = self.follow(piece.body)
        except Leave as leave:
            self.substituted = leave.status
        finally:
            parts, self.out, self.line = self.out or [], out, line
        text = text_of_parts(parts)
        if piece.is_process:
            return known(self.state.world.files.pipe(piece.raw, text))
        if OUTPUT in parts:
            return not_known(piece.raw)
        if text.parts and isinstance(text.parts[-1], str):
            text = text_of_parts((*text.parts[:-1], text.parts[-1].rstrip("\n")))
        return text

    # Other texts

    def follow_text(self, text: Text) -> Status:
        """Follow a text in this shell: `eval`, `source`. Its lines are those of the command around it."""
        try:
            tree = parse(text)
        except CannotRead:
            return None
        self.num_inner += 1
        self.depth += 1
        try:
            self.check_depth()
            return self.follow(tree)
        finally:
            self.num_inner -= 1
            self.depth -= 1

    def follow_process(
        self, text: Text, env: Mapping[str, Text], arguments: Sequence[Text], name: Text, cwd: Text
    ) -> Status:
        """Follow a text in a shell of its own, which has what was exported, functions too."""
        before = self.state
        values: dict[str, Value] = {key: value for key, value in env.items() if key != "PWD"}
        names = before.exported_functions
        functions = {key: one for key, one in before.functions.items() if key in names}
        self.state = State(
            before.world, values, {*env}, list(arguments), functions, names, name, cwd
        )
        try:
            return self.follow_text(text)
        except Leave as leave:
            return leave.status
        finally:
            self.state = before
