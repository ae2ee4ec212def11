"""One program around another command, and other words put in that command's place."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import field, replace
from typing import TYPE_CHECKING

from preflight.errors import Problem
from preflight.launch import LaunchCommand
from preflight.rewrite import Rewrite
from preflight.values import dataclass

if TYPE_CHECKING:
    from preflight.shell.commands import ShellCommand


@dataclass(frozen=True)
class Layer:
    """One wrapper around a command."""

    kind: str
    """env, srun, bash, docker run, ..."""
    command: LaunchCommand
    inner: LaunchCommand
    start: int
    """argv index of the first inner word; of the script's text for a shell."""
    added: tuple[str, ...] = ()
    """Words that the inner command has in front and argv does not: `python` for `uv run train.py`."""
    end: int | None = None
    """argv index behind the last inner word; None is the end."""
    is_text: bool = False
    """The inner words are read by a shell again, so that others have to be quoted."""
    separator: int | None = None
    """argv index of a `--` between the inner words that is not one of them."""
    script: ShellCommand | None = None
    """For a shell: which of its commands the inner one is."""
    assigned: frozenset[str] = frozenset()
    """Variables that this layer sets, whatever the environment says."""
    passes_env: bool = True
    sees_copies: bool | None = None
    """Whether files that are written below the folder of the launch are there for what it starts; None where that is as it is
    around this layer."""
    device: str | None = None
    """Key of the GPU table of what it is started on, where the wrapper names it."""
    notices: tuple[Problem, ...] = field(default=())

    def put(self, argv: Sequence[str]) -> tuple[str, ...] | None:
        """Return this layer's argv around another inner command; None where that cannot be said."""
        words = tuple(argv)
        outer = self.command.argv
        if self.script is not None:
            from preflight.shell.edits import with_words

            text = with_words(outer[self.start], self.script, words)
            return (*outer[: self.start], text, *outer[self.start + 1 :])
        if words[: len(self.added)] != self.added:
            return None
        own = words[len(self.added) :]
        if self.is_text:
            own = tuple(shlex.quote(word) for word in own)
        if self.separator is not None:
            kept = self.separator - self.start
            own = (*own[:kept], outer[self.separator], *own[kept:])
        return (*outer[: self.start], *own, *(outer[self.end :] if self.end is not None else ()))

    @property
    def places(self) -> tuple[int, ...]:
        """Return the argv indices of the inner words that argv has."""
        end = len(self.command.argv) if self.end is None else self.end
        return tuple(index for index in range(self.start, end) if index != self.separator)


def rewrapped(rewrite: Rewrite, layers: Sequence[Layer]) -> Rewrite | None:
    """Return a rewrite of the innermost command as one of the whole; None where a layer cannot hold it."""
    told = [layer.sees_copies for layer in layers if layer.sees_copies is not None]
    if rewrite.files and told[-1:] == [False]:
        return None  # the copies would lie outside the container
    argv, env = rewrite.argv, dict(rewrite.env)
    reaches = all(layer.passes_env and not layer.assigned & env.keys() for layer in layers)
    if env and not reaches:
        argv, env = ("env", *(f"{name}={value}" for name, value in env.items()), *argv), {}
    for layer in reversed(layers):
        put = layer.put(argv)
        if put is None:
            return None
        argv = put
    return replace(rewrite, argv=argv, env=env)
