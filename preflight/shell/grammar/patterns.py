"""Patterns of the shell, and regular expressions of grep, sed and awk, compiled for the automaton."""

from __future__ import annotations

import re
from collections.abc import Sequence

from preflight.shell.grammar.automaton import (
    ANY,
    Accepts,
    Instruction,
    Match,
    NoPattern,
    Pattern,
    chain,
    either,
    is_word,
    repeated,
)

__all__ = ["Match", "NoPattern", "Pattern", "glob", "regex", "reversed_glob"]
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
                parts.append(repeated(ANY, 0, None))
            elif character == "?":
                parts.append(ANY)
            elif character == "[":
                parts.append(self.bracket_or_plain())
            elif character == "\\" and self.at < len(self.text):
                parts.append(self.one(self.text[self.at]))
                self.at += 1
            else:
                parts.append(self.one(character))
        return chain(*parts)

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
            body = either(body, self.sequence("|)"))
        if not self.text.startswith(")", self.at):
            raise NoPattern("a group that is never closed")
        self.at += 1
        low, high = {"?": (0, 1), "*": (0, None), "+": (1, None), "@": (1, 1)}[mark]
        return repeated(body, low, high)


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

    def alternatives(self) -> list[Instruction]:
        body = self.sequence()
        while self.operator("|"):
            body = either(body, self.sequence())
        return body

    def sequence(self) -> list[Instruction]:
        parts: list[list[Instruction]] = []
        while self.at < len(self.text) and not self.peeks("|") and not self.peeks(")"):
            parts.append(self.with_repeats(self.atom(is_first=not parts)))
        return chain(*parts)

    def with_repeats(self, body: list[Instruction]) -> list[Instruction]:
        while self.at < len(self.text):
            if self.operator("*"):
                body = repeated(body, 0, None)
            elif self.operator("+"):
                body = repeated(body, 1, None)
            elif self.operator("?"):
                body = repeated(body, 0, 1)
            elif self.peeks("{"):
                close = "}" if self.is_extended else r"\\}"
                match = re.compile(r"\\?\{(\d*)(,?)(\d*)" + close).match(self.text, self.at)
                if match is None:
                    return body
                self.at = match.end()
                low = int(match[1] or 0)
                high = low if not match[2] else int(match[3]) if match[3] else None
                body = repeated(body, low, high)
            else:
                break
        return body

    def atom(self, is_first: bool) -> list[Instruction]:
        text = self.text
        if self.operator("("):
            self.num_groups += 1
            number = self.num_groups
            body = self.alternatives()
            if not self.operator(")"):
                raise NoPattern("a group that is never closed")
            return chain([("save", None, 2 * number - 2)], body, [("save", None, 2 * number - 1)])
        character = text[self.at]
        self.at += 1
        if character == ".":
            return ANY
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
        tests: dict[str, Accepts] = {"w": is_word, "s": str.isspace, "d": str.isdigit}
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
    body = compiler.alternatives()
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
