"""What is filled in inside a word, parsed: parameters, arithmetic, substitutions, and the text of double quotes."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Mapping

from preflight.lazy_pattern import lazy_pattern
from preflight.shell.grammar.scanning import (
    end_of_backquote,
    end_of_brace,
    end_of_first,
    end_of_index,
    end_of_parenthesis,
)
from preflight.shell.grammar.syntax import (
    AndOr,
    Calculation,
    CannotRead,
    Double,
    Given,
    Literal,
    Parameter,
    Piece,
    Quoted,
    Redirection,
    Substitution,
    Word,
)
from preflight.shell.grammar.text import Unknown

ENDS_WORD = " \t\r\n;&|<>()"
GIVEN = "\0"
"""Holds the place of a part that is not known while its text is parsed; shell text has no such character."""
DEEPEST = 60
_SPECIAL = lazy_pattern(r"[A-Za-z_]\w*|[@*#?$!\d-]", re.ASCII)
_OPERATORS = lazy_pattern(r":[-=+?]|[-=+?]|##?|%%?|//?|\^\^?|,,?|:|@")


class ExpansionParser:
    """Reads what begins with `$`. A parser of words and one of statements stand on it, because `$(...)` holds some."""

    def __init__(
        self, text: str, unknowns: Mapping[int, Unknown], depth: int = 0, first_line: int = 1
    ) -> None:
        self.text = text
        self.unknowns = unknowns
        self.at = 0
        self.depth = depth
        self.first_line = first_line
        self.waiting: list[tuple[str, bool, bool, list[Redirection], int]] = []
        """Here-documents whose text begins behind this line: mark, `<<-`, quoted, list and place of each."""
        self._newlines = [match.start() for match in re.finditer("\n", text)]

    def line_at(self, position: int) -> int:
        return bisect_right(self._newlines, position - 1) + self.first_line

    @property
    def line(self) -> int:
        return self.line_at(self.at)

    def statements(self, ends: tuple[str, ...]) -> tuple[AndOr, ...]:
        raise NotImplementedError

    def inner(self, start: int, end: int) -> ExpansionParser:
        """Return a parser of a part of the text."""
        if self.depth > DEEPEST:
            raise CannotRead(f"line {self.line_at(start)}: nested too deeply")
        unknowns = {
            place - start: one for place, one in self.unknowns.items() if start <= place < end
        }
        line = self.line_at(start)
        return type(self)(self.text[start:end], unknowns, self.depth + 1, line)

    def shown(self, start: int, end: int) -> str:
        """Return a part of the text as a reader of the script knows it."""
        text = self.text[start:end]
        if GIVEN not in text:
            return text
        return "".join(
            self.unknowns[start + index].source if character == GIVEN else character
            for index, character in enumerate(text)
        )

    def in_double(self, start: int, end: int, keeps_quotes: bool = False) -> tuple[Piece, ...]:
        """Return the pieces of what stands in double quotes, in a here-document or in arithmetic."""
        pieces: list[Piece] = []
        text, before = self.text, self.at
        self.at = start
        while self.at < end:
            character = text[self.at]
            if character == "\\":
                escaped = text[self.at + 1 : self.at + 2]
                special = '$`\\\n"' if not keeps_quotes else "$`\\\n"
                if escaped != "\n":
                    pieces.append(Quoted(escaped if escaped in special else "\\" + escaped))
                self.at += 2
            elif character in "$`":
                self.dollar(pieces, True)
            elif character == GIVEN:
                pieces.append(Given(self.unknowns[self.at], True))
                self.at += 1
            else:
                stop = self.at + 1
                while stop < end and text[stop] not in "\\$`\0":
                    stop += 1
                pieces.append(Quoted(text[self.at : stop]))
                self.at = stop
        self.at = before
        return tuple(pieces)

    def plain(self, start: int, end: int) -> Word:
        """Return a part of the text as a word in which only `$` and backquotes mean something."""
        pieces = self.in_double(start, end, keeps_quotes=True)
        return Word(start, end, self.shown(start, end), (Double(pieces),))

    def dollar(self, pieces: list[Piece], is_quoted: bool) -> None:
        """Read what begins with `$` or a backquote."""
        text, at = self.text, self.at
        if text[at] == "`":
            end = end_of_backquote(text, at + 1)
            pieces.append(Substitution(self.shown(at, end + 1), self.backquoted(at + 1, end)))
            self.at = end + 1
        elif text.startswith("$((", at) and (end := self.end_of_arithmetic(at + 3)):
            pieces.append(Calculation(self.shown(at, end + 2), self.plain(at + 3, end)))
            self.at = end + 2
        elif text.startswith("$(", at):
            pieces.append(self.substitution(at + 2))
        elif text.startswith("${", at):
            end = end_of_brace(text, at + 2, is_quoted)
            pieces.append(self.parameter(at, end, is_quoted))
            self.at = end + 1
        elif match := _SPECIAL.match(text, at + 1):
            self.at = match.end()
            pieces.append(Parameter(match.string[at : self.at], match[0]))
        else:
            pieces.append(Quoted("$") if is_quoted else Literal("$"))
            self.at += 1

    def end_of_arithmetic(self, start: int) -> int:
        """Return where `))` closes what begins before `start`; 0 where it is a subshell in parentheses."""
        try:
            end = end_of_parenthesis(self.text, start)
        except CannotRead:
            return 0
        return end if self.text.startswith("))", end) else 0

    def substitution(self, start: int, is_process: bool = False) -> Substitution:
        """Read `$(...)` with its statements; what is not understood is left out as a whole."""
        begin, waiting = self.at, self.waiting
        self.at, self.waiting, self.depth = start, [], self.depth + 1
        body: tuple[AndOr, ...] | None
        try:
            if self.depth > DEEPEST:
                raise CannotRead("nested too deeply")
            body = self.statements((")",))
            if not self.text.startswith(")", self.at):
                raise CannotRead("a parenthesis that is never closed")
        except CannotRead:
            body, self.at = None, end_of_parenthesis(self.text, start)
        self.waiting, self.depth = waiting, self.depth - 1
        self.at += 1
        return Substitution(self.shown(begin, self.at), body, is_process)

    def backquoted(self, start: int, end: int) -> tuple[AndOr, ...] | None:
        inner = self.inner(start, end)
        if "\\" in inner.text and not inner.unknowns:
            inner = type(self)(
                re.sub(r"\\([\\$`])", r"\1", inner.text), {}, inner.depth, inner.first_line
            )
        try:
            body = inner.statements(())
        except CannotRead:
            return None
        return body if inner.at >= len(inner.text) else None

    def parameter(self, start: int, end: int, is_quoted: bool) -> Parameter:
        """Return `${...}` with its parts; one whose operator is not known keeps it, and has no value then."""
        raw, text, at = self.shown(start, end + 1), self.text, start + 2
        prefix = ""
        if text[at] in "#!" and at + 1 < end and text[at + 1] not in "}:-=+?#%/":
            prefix, at = text[at], at + 1
        match = _SPECIAL.match(text, at) or re.compile(r"\d+").match(text, at)
        if match is None:
            return Parameter(raw, "", operator="bad")
        name, at = match[0], match.end()
        if name.isdecimal():
            while at < end and text[at].isdecimal():
                at += 1
            name = text[match.start() : at]
        index = None
        if text[at] == "[":
            close = end_of_index(text, at + 1, end)
            index = self.plain(at + 1, close)
            at = close + 1
        if at >= end:
            return Parameter(raw, name, index, prefix)
        operator = _OPERATORS.match(text, at, end)
        if operator is None:
            if prefix == "!" and text[at:end] in ("*", "@"):
                return Parameter(raw, name, index, operator="!*")
            return Parameter(raw, name, index, prefix, "bad")
        mark, at = operator[0], operator.end()
        if mark in ("/", "//") and at < end and text[at] in "#%":
            mark, at = mark + text[at], at + 1
        divider = {"/": "/", ":": ":"}.get(mark[0]) if mark not in (":-", ":=", ":+", ":?") else None  # fmt: skip
        stop = end_of_first(text, at, end, divider, mark[-1] in "#%:") if divider else end
        word = self.argument(at, stop, is_quoted and mark[-1:] in "-=+?", divider == ":")
        second = self.argument(stop + 1, end, False, divider == ":") if stop < end else None
        return Parameter(raw, name, index, prefix, mark, word, second)

    def argument(self, start: int, end: int, is_quoted: bool, is_number: bool) -> Word:
        if is_number:
            return self.plain(start, end)
        if is_quoted:
            # Quotes in `"${x:-"a b"}"` are quotes still, single ones are not.
            text = self.text[start:end]
            if '"' not in text:
                pieces = self.in_double(start, end)
                return Word(start, end, self.shown(start, end), (Double(pieces),))
        inner = self.inner(start, end)
        found: list[Piece] = []
        while inner.at < len(inner.text):
            if inner.text[inner.at] in ENDS_WORD:
                found.append(Literal(inner.text[inner.at]))
                inner.at += 1
            else:
                inner.piece(found)
        return Word(start, end, self.shown(start, end), tuple(found))

    def piece(self, pieces: list[Piece]) -> None:
        """Read one piece outside of quotes."""
        raise NotImplementedError
