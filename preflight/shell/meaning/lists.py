"""Lists and pipelines of a script, and the ways that it may go where nobody knows which is taken."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

from preflight.shell.grammar.syntax import AndOr, CannotRead, Command, Pipeline
from preflight.shell.grammar.text import Part, text_of_parts
from preflight.shell.meaning.running import Input, Leave, Status
from preflight.shell.meaning.state import State, merged

DEEPEST = 30


class Lists:
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

    def command(self, command: Command) -> Status:
        """Do what a command does."""
        raise NotImplementedError

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
        try:
            self.check_depth()
            yield
        finally:
            self.state = before
            self.depth -= 1

    def check_depth(self) -> None:
        if self.depth > DEEPEST:
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
