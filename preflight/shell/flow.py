"""The flow of a script: lists, pipelines, conditions and loops, each side followed where nobody knows which is taken."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

from preflight.shell.conditions import double_holds
from preflight.shell.expansion import expand, number_of, pattern_of, text_of
from preflight.shell.patterns import NoPattern, glob
from preflight.shell.redirections import redirected
from preflight.shell.running import Input, Leave, Status
from preflight.shell.state import State, merged
from preflight.shell.syntax import (
    AndOr,
    Arithmetic,
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
    Simple,
    Test,
    Word,
)
from preflight.shell.text import Part, not_known, text_of_parts

COMMAND_STEPS = 100
"""What one command counts for, so that at most 20,000 are followed."""
MOST_TURNS = 1_000
DEEPEST = 30


class Flow:
    """Where following a script has come to."""

    def __init__(self, state: State, goes_on: bool, explores: bool = False) -> None:
        self.state = state
        self.goes_on = goes_on
        """Whether `exit` is passed over: a folder that is missing here may be there for the job."""
        self.explores = explores
        """Whether the arms that are not taken are followed too, for what they would start; what they set is lost."""
        self.line = 0
        self.depth = 0
        self.num_inner = 0
        """Texts that are followed inside a command: their lines are not the script's."""
        self.out: list[Part] | None = None
        """Where standard output goes; None: to the job's log."""
        self.input: Input | None = None
        self.is_likely = False
        """Of the last command nobody knows whether it succeeds, but a script goes on as if it did."""
        self.may_have_left = False
        """A side of an unknown condition has left the loop."""

    def simple(self, command: Simple) -> Status:
        """Do what a simple command does."""
        raise NotImplementedError

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
        with redirected(self, command.redirections):
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
        value = number_of(command.text, self.state)
        return None if value is None else value != 0

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
        for number, (condition, body) in enumerate(command.arms):
            holds = True if condition is None else self.follow(condition)
            if holds is False:
                self.explore([body])
                continue
            if holds and not possible:
                self.explore([body for _, body in command.arms[number + 1 :]])
                return self.follow(body)
            possible.append(lambda body=body: self.follow(body))  # type: ignore[misc]
            if holds:
                self.branches(possible, False)
                return None
        if possible:
            self.branches(possible, True)
            return None
        return True

    def explore(self, bodies: Sequence[Sequence[AndOr]]) -> None:
        """Follow what is not done here, for what it would start."""
        if not self.explores:
            return
        before, line = self.state.copy(), self.line
        for body in bodies:
            with suppress(Leave):
                self.follow(body)
            self.state.become(before.copy())
        self.line = line

    def case(self, command: Case) -> Status:
        subject = text_of(command.subject, self.state).known
        possible: list[Callable[[], object]] = []
        falls = False
        for patterns, body, mark in command.arms:
            fits = True if falls else self.fits(subject, patterns)
            falls = False
            if fits is False:
                self.explore([body])
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
            value = number_of(condition, self.state)
            return None if value is None else value != 0

        def turn() -> bool:
            goes_on = self.turn(command.body)
            if goes_on:
                number_of(step, self.state)
            return goes_on

        number_of(first, self.state)
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
