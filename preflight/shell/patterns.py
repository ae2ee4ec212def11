"""Patterns of the shell and of grep, sed and awk, matched in bounded time.

A pattern comes from somebody's script, and a backtracking matcher takes exponential time for some of
them. So a pattern is compiled to a small program, and all its threads go over the text together, one
character at a time (Thompson 1968; with captures as in Pike's sam): at most program x text steps,
which `Steps` counts. Of several matches that begin at one place the longest counts, as in POSIX.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from preflight.shell.text import Steps
from preflight.values import dataclass

Accepts = Callable[[str], bool]
Instruction = tuple[str, "Accepts | int | None", int]
"""What to do, with a test for a character or a place, and another place."""
_CLASSES: dict[str, Accepts] = {
    "alpha": str.isalpha,
    "digit": str.isdigit,
    "alnum": str.isalnum,
    "upper": str.isupper,
    "lower": str.islower,
    "space": str.isspace,
    "blank": lambda character: character in " \t",
    "punct": lambda character: (
        character.isprintable() and not (character.isalnum() or character == " ")
    ),
    "xdigit": lambda character: character in "0123456789abcdefABCDEF",
}
MOST_REPEATS = 200


class NoPattern(Exception):
    """The text is no pattern that is understood here."""


def _is_word(character: str) -> bool:
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
        matches: list[Match] = []
        for at in range(start, len(text) + 1):
            if not matches and (at == start or not only_here):
                self._add(threads, 0, (at,) + (-1,) * (2 * self.num_groups), text, at)
            steps.spend(len(threads) + 1)
            following: dict[int, tuple[int, ...]] = {}
            best: tuple[int, ...] | None = None
            for place, saved in threads.items():
                kind, what, _ = self.program[place]
                if kind == "match":
                    if (best is None or saved[0] < best[0]) and (
                        not matches or saved[0] <= matches[-1].start
                    ):
                        best = saved
                elif at < len(text) and callable(what) and what(text[at]):
                    self._add(following, place + 1, saved, text, at + 1)
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
        place: int,
        saved: tuple[int, ...],
        text: str,
        at: int,
    ) -> None:
        """Add a thread, following all that reads no character."""
        waiting = [(place, saved)]
        seen: set[int] = set()
        while waiting:
            place, saved = waiting.pop()
            if place in seen or place in threads:
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
                is_edge = (before != "" and _is_word(before)) != (after != "" and _is_word(after))
                if {"^": at == 0, "$": at == len(text), "b": is_edge}["^$b"[other]]:
                    waiting.append((place + 1, saved))
            else:
                threads[place] = saved


class _Compiler:
    """Goes over a pattern and writes its program."""

    def __init__(self, text: str, ignores_case: bool = False) -> None:
        self.text = text
        self.at = 0
        self.ignores_case = ignores_case
        self.num_groups = 0

    def pattern(self, body: list[Instruction]) -> Pattern:
        if len(body) > 4_000:
            raise NoPattern("a pattern that is too long")
        return Pattern([*body, ("match", None, 0)], self.num_groups)

    def one(self, character: str) -> list[Instruction]:
        if self.ignores_case:
            small = character.lower()
            return [("char", lambda given: given.lower() == small, 0)]
        return [("char", lambda given: given == character, 0)]

    def bracket(self) -> list[Instruction]:
        """Read `[a-z[:digit:]]`; the opening bracket is read already."""
        text = self.text
        is_negated = text.startswith(("!", "^"), self.at)
        self.at += is_negated
        tests: list[Accepts] = []
        characters: set[str] = set()
        start = self.at
        while not (text.startswith("]", self.at) and self.at > start):
            if self.at >= len(text):
                raise NoPattern("a bracket that is never closed")
            if match := re.compile(r"\[:(\w+):\]").match(text, self.at):
                if match[1] not in _CLASSES:
                    raise NoPattern(match[0])
                tests.append(_CLASSES[match[1]])
                self.at = match.end()
            elif match := re.compile(r"([^\]])-([^\]])", re.DOTALL).match(text, self.at):
                low, high = match[1], match[2]
                tests.append(lambda given, low=low, high=high: low <= given <= high)  # type: ignore[misc]
                self.at = match.end()
            else:
                characters.add(text[self.at])
                self.at += 1
        self.at += 1
        folds = self.ignores_case

        def accepts(given: str) -> bool:
            forms = {given, given.lower(), given.upper()} if folds else {given}
            inside = bool(forms & characters) or any(test(one) for test in tests for one in forms)
            return inside is not is_negated

        return [("char", accepts, 0)]


_ANY: list[Instruction] = [("char", lambda given: True, 0)]


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


def _either(first: list[Instruction], second: list[Instruction]) -> list[Instruction]:
    ahead = len(first) + 2
    return [
        ("split", 1, ahead),
        *shifted(first, 1),
        ("jump", None, ahead + len(second)),
        *shifted(second, ahead),
    ]


def _chain(*bodies: Sequence[Instruction]) -> list[Instruction]:
    found: list[Instruction] = []
    for body in bodies:
        found += shifted(body, len(found))
        if len(found) > 4_000:
            raise NoPattern("a pattern that is too long")
    return found


def _repeated(body: list[Instruction], low: int, high: int | None) -> list[Instruction]:
    """Return a program that goes over another `low` to `high` times."""
    if max(low, high or 0) > MOST_REPEATS:
        raise NoPattern("a pattern that is too long")
    found = _chain(*[body] * low)
    if high is None:
        star = [("split", 1, len(body) + 2), *shifted(body, 1), ("jump", None, 0)]
        return _chain(found, star)
    for _ in range(high - low):
        found = _chain(found, [("split", 1, len(body) + 1), *shifted(body, 1)])
    return found


class _Glob(_Compiler):
    def sequence(self, ends: str = "") -> list[Instruction]:
        parts: list[list[Instruction]] = []
        while self.at < len(self.text) and self.text[self.at] not in ends:
            character = self.text[self.at]
            is_group = self.text.startswith("(", self.at + 1) and character in "?*+@"
            self.at += 1
            if character == "!" and self.text.startswith("(", self.at):
                raise NoPattern("!(...)")
            if is_group:
                parts.append(self.group(character))
            elif character == "*":
                parts.append(_repeated(_ANY, 0, None))
            elif character == "?":
                parts.append(_ANY)
            elif character == "[":
                parts.append(self.bracket_or_plain())
            elif character == "\\" and self.at < len(self.text):
                parts.append(self.one(self.text[self.at]))
                self.at += 1
            else:
                parts.append(self.one(character))
        return _chain(*parts)

    def bracket_or_plain(self) -> list[Instruction]:
        before = self.at
        try:
            return self.bracket()
        except NoPattern:
            self.at = before
            return self.one("[")

    def group(self, mark: str) -> list[Instruction]:
        self.at += 1
        body = self.sequence("|)")
        while self.text.startswith("|", self.at):
            self.at += 1
            body = _either(body, self.sequence("|)"))
        if not self.text.startswith(")", self.at):
            raise NoPattern("a group that is never closed")
        self.at += 1
        low, high = {"?": (0, 1), "*": (0, None), "+": (1, None), "@": (1, 1)}[mark]
        return _repeated(body, low, high)


class _Regex(_Compiler):
    """Extended or basic regular expressions; in basic ones `\\(`, `\\|`, `\\{` are the operators."""

    def __init__(self, text: str, is_extended: bool, ignores_case: bool) -> None:
        super().__init__(text, ignores_case)
        self.is_extended = is_extended

    def operator(self, mark: str) -> bool:
        """Go past an operator, if it stands here."""
        spelled = mark if self.is_extended or mark in "*^$" else "\\" + mark
        if not self.text.startswith(spelled, self.at):
            return False
        self.at += len(spelled)
        return True

    def peeks(self, mark: str) -> bool:
        return self.text.startswith(mark if self.is_extended else "\\" + mark, self.at)

    def either(self) -> list[Instruction]:
        body = self.sequence()
        while self.operator("|"):
            body = _either(body, self.sequence())
        return body

    def sequence(self) -> list[Instruction]:
        parts: list[list[Instruction]] = []
        while self.at < len(self.text) and not self.peeks("|") and not self.peeks(")"):
            parts.append(self.repeated(self.atom(is_first=not parts)))
        return _chain(*parts)

    def repeated(self, body: list[Instruction]) -> list[Instruction]:
        while self.at < len(self.text):
            if self.operator("*"):
                body = _repeated(body, 0, None)
            elif self.operator("+"):
                body = _repeated(body, 1, None)
            elif self.operator("?"):
                body = _repeated(body, 0, 1)
            elif self.peeks("{"):
                close = "}" if self.is_extended else r"\\}"
                match = re.compile(r"\\?\{(\d*)(,?)(\d*)" + close).match(self.text, self.at)
                if match is None:
                    return body
                self.at = match.end()
                low = int(match[1] or 0)
                high = low if not match[2] else int(match[3]) if match[3] else None
                body = _repeated(body, low, high)
            else:
                break
        return body

    def atom(self, is_first: bool) -> list[Instruction]:
        text = self.text
        if self.operator("("):
            self.num_groups += 1
            number = self.num_groups
            body = self.either()
            if not self.operator(")"):
                raise NoPattern("a group that is never closed")
            return _chain([("save", None, 2 * number - 2)], body, [("save", None, 2 * number - 1)])
        character = text[self.at]
        self.at += 1
        if character == ".":
            return _ANY
        if character == "[":
            return self.bracket()
        if character == "^" and (self.is_extended or is_first):
            return [("at", None, 0)]
        if character == "$" and (self.is_extended or self.at == len(text) or self.peeks(")")):
            return [("at", None, 1)]
        if character == "\\" and self.at < len(text):
            return self.escaped(text[self.at])
        return self.one(character)

    def escaped(self, character: str) -> list[Instruction]:
        self.at += 1
        tests: dict[str, Accepts] = {"w": _is_word, "s": str.isspace, "d": str.isdigit}
        if character.lower() in tests:
            test = tests[character.lower()]
            is_negated = character.isupper()
            return [("char", lambda given: test(given) is not is_negated, 0)]
        if character in "b<>":
            return [("at", None, 2)]
        if character.isalnum() and character not in "nt":
            raise NoPattern(f"\\{character}")
        return self.one({"n": "\n", "t": "\t"}.get(character, character))


def glob(parts: Sequence[tuple[str, bool]]) -> Pattern:
    """Return the pattern of a word: parts that are quoted stand for themselves."""
    text = "".join(re.sub(r"(\W)", r"\\\1", part) if quoted else part for part, quoted in parts)
    compiler = _Glob(text)
    return compiler.pattern(compiler.sequence())


def regex(text: str, is_extended: bool = True, ignores_case: bool = False) -> Pattern:
    """Return the pattern of a regular expression; raise NoPattern for what is none."""
    compiler = _Regex(text, is_extended, ignores_case)
    body = compiler.either()
    if compiler.at < len(text):
        raise NoPattern(text)
    return compiler.pattern(body)


def reversed_glob(parts: Sequence[tuple[str, bool]]) -> Pattern | None:
    """Return a pattern that matches a text from its end; None where it is no simple one."""
    units: list[str] = []
    for part, is_quoted in parts:
        at = 0
        while at < len(part):
            if is_quoted:
                units.append(re.sub(r"(\W)", r"\\\1", part[at]))
                at += 1
                continue
            match = re.compile(r"\\.|\[[!^]?\]?[^\]]*\]|.", re.DOTALL).match(part, at)
            assert match is not None
            if part[at] in "?*+@!" and part[at + 1 : at + 2] == "(":
                return None
            units.append(match[0])
            at = match.end()
    return glob([("".join(reversed(units)), False)])
