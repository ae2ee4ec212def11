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

from preflight.shell.arithmetic import NoNumber
from preflight.shell.builtins import BUILTINS, activate, declare
from preflight.shell.conditions import bracket_holds, double_holds
from preflight.shell.expansion import expand, pattern_of, text_of
from preflight.shell.parser import DECLARING, parse
from preflight.shell.patterns import NoPattern, glob
from preflight.shell.running import OUTPUT, Input, Leave, Status, argument
from preflight.shell.state import State, merged
from preflight.shell.syntax import (
    AndOr,
    Arithmetic,
    Assignment,
    CannotRead,
    Case,
    Command,
    Count,
    For,
    Function,
    Group,
    If,
    Loop,
    Pipeline,
    Redirection,
    Simple,
    Substitution,
    Test,
    Word,
)
from preflight.shell.text import (
    Array,
    Part,
    Text,
    Value,
    known,
    not_known,
    text_of_parts,
)
from preflight.shell.tools import TOOLS

Starter = Callable[["Reader", list[Text], Mapping[str, Text]], Status]
"""Looks for launches in a command with variables of its own, and returns whether it succeeds."""
COMMAND_STEPS = 100
"""What one command counts for, so that at most 20,000 are followed."""
CONDAS = ("conda", "mamba", "micromamba")
MOST_TURNS = 1_000
DEEPEST = 30


class Reader:
    """What following a script has come to."""

    def __init__(self, state: State, starter: Starter, goes_on: bool = False) -> None:
        self.state = state
        self.starter = starter
        self.goes_on = goes_on
        """Whether `exit` is passed over: a folder that is missing here may be there for the job."""
        self.line = 0
        self.depth = 0
        self.num_inner = 0
        """Texts that are followed inside a command: their lines are not the script's."""
        self.out: list[Part] | None = None
        """Where standard output goes; None: to the job's log."""
        self.input: Input | None = None
        self.substituted: Status = True
        """How the last `$(...)` ended."""
        self.is_likely = False
        """Of the last command nobody knows whether it succeeds, but a script goes on as if it did."""
        self.may_have_left = False
        """A side of an unknown condition has left the loop."""
        state.world.output_of = self.output_of

    # Lists

    def follow(self, statements: Sequence[AndOr]) -> Status:
        """Follow statements; return whether the last one succeeds."""
        status: Status = True
        for statement in statements:
            for mark, pipeline in statement.pipelines:
                if mark and status is None and self.is_likely:
                    status = True
                if mark and status is (mark == "||"):
                    continue
                if mark and status is None:
                    self.branches([lambda pipeline=pipeline: self.pipeline(pipeline)], True)  # type: ignore[misc]
                    continue
                status = self.state.status = self.pipeline(pipeline)
        return status

    def pipeline(self, pipeline: Pipeline) -> Status:
        commands = pipeline.commands
        if len(commands) == 1:
            status = self.command(commands[0])
        else:
            status = self.piped(commands)
        return not status if pipeline.is_negated and status is not None else status

    def piped(self, commands: Sequence[Command]) -> Status:
        """Follow commands each of which reads what the one before prints; each is a subshell."""
        out, input_ = self.out, self.input
        status: Status = None
        for index, command in enumerate(commands):
            is_last = index == len(commands) - 1
            self.out = out if is_last else []
            try:
                with self.subshell():
                    status = self.command(command)
            except Leave as leave:
                status = leave.status
            if not is_last:
                assert self.out is not None
                self.input = Input(text_of_parts(self.out))
        self.out, self.input = out, input_
        return status

    @contextmanager
    def subshell(self) -> Iterator[None]:
        """Let what is followed work on a copy of the state."""
        before = self.state
        self.state = before.copy()
        self.depth += 1
        self.check_depth()
        try:
            yield
        finally:
            self.state = before
            self.depth -= 1

    def check_depth(self) -> None:
        if self.depth > DEEPEST:
            self.depth -= 1
            raise CannotRead("a place that is nested too deeply")

    def branches(self, bodies: Sequence[Callable[[], object]], or_nothing: bool) -> None:
        """Follow what may happen, each from here; afterwards only that is known on which all agree."""
        before = self.state.copy()
        after = [before.copy()] if or_nothing else []
        left: Leave | None = None
        for body in bodies:
            self.state.become(before.copy())
            try:
                body()
                after.append(self.state.copy())
            except Leave as leave:
                left = leave
                self.may_have_left |= leave.kind != "continue"
        if not after:
            assert left is not None
            raise left
        self.state.become(merged(before, after))

    # Commands

    def command(self, command: Command) -> Status:
        self.state.world.steps.spend(COMMAND_STEPS)
        self.is_likely = False
        if not self.num_inner:
            self.line = command.line
        if isinstance(command, Simple):
            return self.simple(command)
        if isinstance(command, Function):
            self.state.functions[command.name] = command
            return True
        with self.redirected(command.redirections):
            return self.compound(command)

    def compound(self, command: Command) -> Status:
        if isinstance(command, Group):
            return self.group(command)
        if isinstance(command, If):
            return self.if_(command)
        if isinstance(command, For):
            return self.for_(command)
        if isinstance(command, Loop):
            return self.loop(command)
        if isinstance(command, Count):
            return self.count(command)
        if isinstance(command, Case):
            return self.case(command)
        if isinstance(command, Test):
            return double_holds(command.tokens, self.state)
        assert isinstance(command, Arithmetic)
        value = self.number(command.text)
        return None if value is None else value != 0

    def number(self, word: Word) -> int | None:
        """Return the value of an expression; None where it is not known, or none."""
        try:
            return self.state.number(text_of(word, self.state))
        except NoNumber:
            return None

    def group(self, command: Group) -> Status:
        if not command.is_subshell:
            return self.follow(command.body)
        try:
            with self.subshell():
                return self.follow(command.body)
        except Leave as leave:
            return leave.status

    def if_(self, command: If) -> Status:
        """Follow the arm whose condition holds, or all that may."""
        possible: list[Callable[[], object]] = []
        for condition, body in command.arms:
            holds = True if condition is None else self.follow(condition)
            if holds is False:
                continue
            if holds and not possible:
                return self.follow(body)
            possible.append(lambda body=body: self.follow(body))  # type: ignore[misc]
            if holds:
                self.branches(possible, False)
                return None
        if possible:
            self.branches(possible, True)
            return None
        return True

    def case(self, command: Case) -> Status:
        subject = text_of(command.subject, self.state).known
        possible: list[Callable[[], object]] = []
        falls = False
        for patterns, body, mark in command.arms:
            fits = True if falls else self.fits(subject, patterns)
            falls = False
            if fits is False:
                continue
            if fits and not possible:
                status = self.follow(body)
                if mark == ";;":
                    return status
                falls = mark == ";&"
                continue
            possible.append(lambda body=body: self.follow(body))  # type: ignore[misc]
            if fits:
                self.branches(possible, False)
                return None
        if possible:
            self.branches(possible, True)
            return None
        return True

    def fits(self, subject: str | None, patterns: Sequence[Word]) -> Status:
        """Tell whether one of the patterns of a `case` fits."""
        answer: Status = False
        for pattern in patterns:
            parts = pattern_of(pattern, self.state)
            if pattern.raw == "*":
                return True
            try:
                if subject is None or parts is None:
                    answer = None
                elif glob(parts).fits(subject, self.state.world.steps):
                    return True
            except NoPattern:
                answer = None
        return answer

    def for_(self, command: For) -> Status:
        if command.words is None:
            words = list(self.state.arguments)
        else:
            words = expand(command.words, self.state)
        if command.is_select:
            self.state.set(command.name, not_known(f"${command.name}"))
            self.branches([lambda: self.turn(command.body)], True)
            return None
        for word in words:
            self.state.set(command.name, word)
            if not self.turn(command.body):
                break
        return True

    def turn(self, body: Sequence[AndOr]) -> bool:
        """Follow a loop's body once; return whether the loop goes on."""
        self.state.world.steps.spend(COMMAND_STEPS // 10)
        try:
            self.follow(body)
        except Leave as leave:
            if leave.kind not in ("break", "continue"):
                raise
            if leave.levels > 1:
                raise Leave(leave.kind, leave.status, leave.levels - 1) from None
            return leave.kind == "continue"
        return True

    def loop(self, command: Loop) -> Status:
        return self.turns(
            lambda: self.follow(command.condition),
            command.is_until,
            lambda: self.turn(command.body),
        )

    def count(self, command: Count) -> Status:
        first, condition, step = command.texts

        def holds() -> Status:
            if not condition.raw.strip():
                return True
            value = self.number(condition)
            return None if value is None else value != 0

        def turn() -> bool:
            goes_on = self.turn(command.body)
            if goes_on:
                self.number(step)
            return goes_on

        self.number(first)
        return self.turns(holds, False, turn)

    def turns(
        self, condition: Callable[[], Status], is_until: bool, turn: Callable[[], bool]
    ) -> Status:
        """Go round while a condition holds; once where that is not known, and no more where the loop may have been left."""
        before, self.may_have_left = self.may_have_left, False
        try:
            for _ in range(MOST_TURNS):
                holds = condition()
                if holds is None:
                    self.branches([turn], True)
                    return None
                if holds is is_until:
                    return True
                if not turn():
                    return True
                if self.may_have_left:
                    return None
            return None
        finally:
            self.may_have_left = before

    # Simple commands

    def simple(self, command: Simple) -> Status:
        words = command.words
        with self.redirected(command.redirections):
            if not words:
                self.substituted = True
                for one in command.assignments:
                    self.assign(one)
                reads = any(one.operator == "<" for one in command.redirections)
                if reads and not command.assignments and self.input is not None:
                    self.print(self.input.rest())  # $(< file)
                return self.substituted
            if isinstance(words[0], Word) and words[0].raw in DECLARING:
                return declare(self, words[0].raw, words[1:])
            argv = expand([word for word in words if isinstance(word, Word)], self.state)
            if not argv:
                for one in command.assignments:
                    self.assign(one)
                return self.substituted
            return self.run(argv, self.own_values(command.assignments))

    def own_values(self, assignments: Sequence[Assignment]) -> dict[str, Value]:
        """Return the variables in front of a command, which it alone has."""
        if not assignments:
            return {}
        before, exported = dict(self.state.values), set(self.state.exported)
        for one in assignments:
            self.assign(one)
        own = {one.name: self.state.values[one.name] for one in assignments}
        self.state.values, self.state.exported = before, exported
        return own

    def assign(self, one: Assignment) -> None:
        """Set a variable, an element of an array, or a whole one."""
        state = self.state
        old = state.values.get(one.name)
        if isinstance(one.value, tuple):
            self.assign_array(one, old)
        elif one.index is not None:
            state.set_item(one.name, self.key(one.index, old), text_of(one.value, state), one.is_added)  # fmt: skip
        else:
            value = text_of(one.value, state)
            state.set(one.name, state.text(one.name) + value if one.is_added else value)

    def assign_array(self, one: Assignment, old: Value | None) -> None:
        assert isinstance(one.value, tuple)
        state = self.state
        is_map = isinstance(old, Array) and old.is_map
        items: dict[int | str, Text] = {}
        if one.is_added and old is not None:
            items = dict(old.items) if isinstance(old, Array) else {0: old}
        following = max((int(key) for key in items), default=-1) + 1 if not is_map else 0
        if is_map and any(index is None for index, _ in one.value):
            # `declare -A M=(key value key value)`
            texts = expand([word for _, word in one.value], state)
            for name, value in zip(texts[::2], texts[1::2], strict=False):
                items[name.shown] = value
            state.values[one.name] = Array(items, True)
            return
        for index, word in one.value:
            if index is None:
                for text in expand([word], state):
                    items[following] = text
                    following += 1
                continue
            key = self.key(index, old)
            if key is None:
                state.values[one.name] = not_known(f"${{{one.name}[@]}}")
                return
            items[key] = text_of(word, state)
            following = key + 1 if isinstance(key, int) else 0
        state.world.steps.spend(len(items))
        state.values[one.name] = Array(items, is_map)

    def key(self, index: Word, old: Value | None) -> int | str | None:
        """Return an index as a number, or as the word that it is in a map; None where it is not known."""
        if isinstance(old, Array) and old.is_map:
            text = text_of(index, self.state).known
            return None if text is None else text.strip("\"'")
        return self.number(index)

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
        before = state.arguments
        state.arguments = arguments
        state.frames = (*state.frames, {})
        self.depth += 1
        self.check_depth()
        try:
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

    @contextmanager
    def redirected(self, redirections: Sequence[Redirection]) -> Iterator[None]:
        """Let a command read and write where its redirections say."""
        if not redirections:
            yield
            return
        out, input_ = self.out, self.input
        targets: list[tuple[str, bool]] = []
        for one in redirections:
            operator, number = one.operator, one.number
            if operator in ("<<", "<<<"):
                text = text_of(one.target, self.state)
                self.input = Input(text + known("\n") if operator == "<<<" else text)
            elif operator == "<" and number in ("", "0"):
                path = self.state.path(text_of(one.target, self.state))
                read = None if path is None else self.state.world.files.read(path)
                self.input = Input(Text((OUTPUT,)) if read is None else read)
            elif operator == ">&" and number in ("", "1") and one.target.raw in ("2", "-"):
                self.out = None
            elif operator in (">", ">>", ">|") and number not in ("", "1"):
                continue
            elif operator in (">", ">>", ">|", "&>", "&>>") or (
                operator == ">&" and number == "" and not one.target.raw.isdecimal()
            ):
                path = self.state.path(text_of(one.target, self.state))
                self.out = []
                if path is not None:
                    targets.append((path, operator.endswith(">>")))
        mine = self.out
        try:
            yield
        finally:
            for path, adds in targets:
                self.state.world.files.write(path, text_of_parts(mine or ()), adds)
            self.out, self.input = out, input_

    def output_of(self, piece: Substitution) -> Text:
        """Return what `$(...)` stands for, or the path that stands for the output of `<(...)`."""
        if piece.body is None or self.state.world.is_partial:
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
        """Follow a text in a shell of its own, which has what was exported."""
        before = self.state
        values: dict[str, Value] = {key: value for key, value in env.items() if key != "PWD"}
        self.state = State(before.world, values, {*env}, list(arguments), name=name, cwd=cwd)
        try:
            return self.follow_text(text)
        except Leave as leave:
            return leave.status
        finally:
            self.state = before
