"""Where a command reads and writes: what redirections do to the input and output of what is followed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from preflight.shell.grammar.syntax import Redirection
from preflight.shell.grammar.text import Text, known, text_of_parts
from preflight.shell.meaning.expansion import text_of
from preflight.shell.meaning.running import OUTPUT, Input, Streams


@contextmanager
def redirected(run: Streams, redirections: Sequence[Redirection]) -> Iterator[None]:
    """Let a command read and write where its redirections say."""
    if not redirections:
        yield
        return
    out, input_ = run.out, run.input
    targets: list[tuple[str, bool]] = []
    for one in redirections:
        operator, number = one.operator, one.number
        if operator in ("<<", "<<<"):
            text = text_of(one.target, run.state)
            run.input = Input(text + known("\n") if operator == "<<<" else text)
        elif operator == "<" and number in ("", "0"):
            path = run.state.path(text_of(one.target, run.state))
            read = None if path is None else run.state.world.files.read(path)
            run.input = Input(Text((OUTPUT,)) if read is None else read)
        elif operator == ">&" and number in ("", "1") and one.target.raw in ("2", "-"):
            run.out = None
        elif operator in (">", ">>", ">|") and number not in ("", "1"):
            continue
        elif operator in (">", ">>", ">|", "&>", "&>>") or (
            operator == ">&" and number == "" and not one.target.raw.isdecimal()
        ):
            path = run.state.path(text_of(one.target, run.state))
            run.out = []
            if path is not None:
                targets.append((path, operator.endswith(">>")))
    mine = run.out
    try:
        yield
    finally:
        for path, adds in targets:
            run.state.world.files.write(path, text_of_parts(mine or ()), adds)
        run.out, run.input = out, input_
