"""Compiled patterns, matched in bounded time.

A pattern comes from somebody's script, and a backtracking matcher takes exponential time for some of
them. So a pattern is compiled to a small program, and all its threads go over the text together, one
character at a time (Thompson 1968; with captures as in Pike's sam): at most program x text steps,
which `Steps` counts. Of several matches that begin at one place the longest counts, as in POSIX.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from preflight.shell.grammar.text import Steps
from preflight.values import dataclass

Accepts = Callable[[str], bool]
Instruction = tuple[str, "Accepts | int | None", int]
"""What to do, with a test for a character or a place, and another place."""
MOST_REPEATS = 200


class NoPattern(Exception):
    """The text is no pattern that is understood here."""


def is_word(character: str) -> bool:
    return character.isalnum() or character == "_"


@dataclass(frozen=True)
class Match:
    start: int
    end: int
    groups: tuple[tuple[int, int] | None, ...]


class Pattern:
    """A compiled pattern."""

    def __init__(self, program: Sequence[Instruction], num_groups: int) -> None:
        self.program = program
        self.num_groups = num_groups

    def search(self, text: str, steps: Steps, at: int = 0) -> Match | None:
        """Return the leftmost longest match from a place on."""
        found = self._run(text, at, steps, only_here=False)
        return found[-1] if found else None

    def ends(self, text: str, steps: Steps) -> list[int]:
        """Return every place where a match that begins at 0 may end, in rising order."""
        return [match.end for match in self._run(text, 0, steps, only_here=True)]

    def fits(self, text: str, steps: Steps) -> bool:
        """Tell whether the whole text matches."""
        return self.ends(text, steps)[-1:] == [len(text)]

    def _run(self, text: str, start: int, steps: Steps, only_here: bool) -> list[Match]:
        threads: dict[int, tuple[int, ...]] = {}
        seen: set[int] = set()
        matches: list[Match] = []
        for at in range(start, len(text) + 1):
            if not matches and (at == start or not only_here):
                self._add(threads, seen, 0, (at,) + (-1,) * (2 * self.num_groups), text, at)
            steps.spend(len(threads) + 1)
            following: dict[int, tuple[int, ...]] = {}
            seen = set()
            best: tuple[int, ...] | None = None
            for place, saved in threads.items():
                kind, what, _ = self.program[place]
                if kind == "match":
                    if (best is None or saved[0] < best[0]) and (
                        not matches or saved[0] <= matches[-1].start
                    ):
                        best = saved
                elif at < len(text) and callable(what) and what(text[at]):
                    self._add(following, seen, place + 1, saved, text, at + 1)
            if best is not None:
                pairs = zip(best[1::2], best[2::2], strict=True)
                groups = tuple(pair if pair[1] >= 0 else None for pair in pairs)
                matches.append(Match(best[0], at, groups))
            if matches:
                first = matches[-1].start
                following = {key: saved for key, saved in following.items() if saved[0] <= first}
            threads = following
            if not threads and (matches or only_here):
                break
        return matches

    def _add(
        self,
        threads: dict[int, tuple[int, ...]],
        seen: set[int],
        place: int,
        saved: tuple[int, ...],
        text: str,
        at: int,
    ) -> None:
        """Add a thread, following all that reads no character; what an earlier thread has `seen` here is that one's."""
        waiting = [(place, saved)]
        while waiting:
            place, saved = waiting.pop()
            if place in seen:
                continue
            seen.add(place)
            kind, what, other = self.program[place]
            if kind == "jump":
                waiting.append((other, saved))
            elif kind == "split":
                assert isinstance(what, int)
                waiting += [(other, saved), (what, saved)]
            elif kind == "save":
                waiting.append((place + 1, (*saved[: other + 1], at, *saved[other + 2 :])))
            elif kind == "at":
                before, after = text[at - 1 : at] if at else "", text[at : at + 1]
                is_edge = (before != "" and is_word(before)) != (after != "" and is_word(after))
                if {"^": at == 0, "$": at == len(text), "b": is_edge}["^$b"[other]]:
                    waiting.append((place + 1, saved))
            else:
                threads[place] = saved


ANY: list[Instruction] = [("char", lambda given: True, 0)]


def shifted(body: Sequence[Instruction], by: int) -> list[Instruction]:
    """Return a program that begins elsewhere."""
    moved: list[Instruction] = []
    for kind, what, other in body:
        if kind == "split":
            assert isinstance(what, int)
            moved.append((kind, what + by, other + by))
        else:
            moved.append((kind, what, other + by if kind == "jump" else other))
    return moved


def either(first: list[Instruction], second: list[Instruction]) -> list[Instruction]:
    ahead = len(first) + 2
    return [
        ("split", 1, ahead),
        *shifted(first, 1),
        ("jump", None, ahead + len(second)),
        *shifted(second, ahead),
    ]


def chain(*bodies: Sequence[Instruction]) -> list[Instruction]:
    found: list[Instruction] = []
    for body in bodies:
        found += shifted(body, len(found))
        if len(found) > 4_000:
            raise NoPattern("a pattern that is too long")
    return found


def repeated(body: list[Instruction], low: int, high: int | None) -> list[Instruction]:
    """Return a program that goes over another `low` to `high` times."""
    if max(low, high or 0) > MOST_REPEATS:
        raise NoPattern("a pattern that is too long")
    found = chain(*[body] * low)
    if high is None:
        star = [("split", 1, len(body) + 2), *shifted(body, 1), ("jump", None, 0)]
        return chain(found, star)
    for _ in range(high - low):
        found = chain(found, [("split", 1, len(body) + 1), *shifted(body, 1)])
    return found
