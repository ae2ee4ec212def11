"""The commands of a script that hold others: groups, conditions, `case` and loops."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from preflight.shell.grammar.patterns import NoPattern, glob
from preflight.shell.grammar.syntax import (
    AndOr,
    Arithmetic,
    Case,
    Command,
    Count,
    For,
    Function,
    Group,
    If,
    Loop,
    Simple,
    Test,
    Word,
)
from preflight.shell.grammar.text import not_known
from preflight.shell.meaning.conditions import double_holds
from preflight.shell.meaning.expansion import expand, number_of, pattern_of, text_of
from preflight.shell.meaning.lists import Lists
from preflight.shell.meaning.redirections import redirected
from preflight.shell.meaning.running import Leave, Status

COMMAND_STEPS = 100
"""What one command counts for, so that at most 20,000 are followed."""
MOST_TURNS = 1_000


class Flow(Lists):
    """Follows the commands that hold others."""

    def simple(self, command: Simple) -> Status:
        """Do what a simple command does."""
        raise NotImplementedError

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
