"""The words of shell text, each with the pieces it is made of: quotes, parameters, substitutions, arrays."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Mapping

from preflight.shell.scanning import (
    end_of_backquote,
    end_of_brace,
    end_of_double,
    end_of_parenthesis,
    end_of_single,
    unescaped,
)
from preflight.shell.syntax import (
    AndOr,
    Assignment,
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
from preflight.shell.text import Unknown

ENDS_WORD = " \t\r\n;&|<>()"
GIVEN = "\0"
"""Holds the place of a part that is not known while its text is parsed; shell text has no such character."""
DEEPEST = 60
_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_SPECIAL = re.compile(r"[A-Za-z_]\w*|[@*#?$!\d-]", re.ASCII)
_OPERATORS = re.compile(r":[-=+?]|[-=+?]|##?|%%?|//?|\^\^?|,,?|:|@")


class WordParser:
    """Reads words at a position. A parser of statements stands on it, because `$(...)` holds some."""

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

    def inner(self, start: int, end: int) -> WordParser:
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

    # Words

    def word(self, is_pattern: bool = False) -> Word:
        """Read a word up to a blank or an operator; empty where none begins here."""
        start, text = self.at, self.text
        pieces: list[Piece] = []
        while self.at < len(text):
            character = text[self.at]
            if text.startswith(("<(", ">("), self.at):
                pieces.append(self.substitution(self.at + 2, is_process=True))
            elif (
                character == "(" and is_pattern and self.at > start and text[self.at - 1] in "?*+@!"
            ):
                end = end_of_parenthesis(text, self.at + 1) + 1
                pieces.append(Literal(text[self.at : end]))
                self.at = end
            elif character in ENDS_WORD:
                break
            else:
                self.piece(pieces)
        return Word(start, self.at, self.shown(start, self.at), tuple(pieces))

    def regex(self) -> Word:
        """Read the right side of `=~`, in which parentheses and bars are plain text."""
        start, depth = self.at, 0
        pieces: list[Piece] = []
        while self.at < len(self.text):
            character = self.text[self.at]
            if character in " \t\r\n" and depth <= 0:
                break
            if character in ENDS_WORD:
                depth += {"(": 1, ")": -1}.get(character, 0)
                pieces.append(Literal(character))
                self.at += 1
            else:
                self.piece(pieces)
        return Word(start, self.at, self.shown(start, self.at), tuple(pieces))

    def piece(self, pieces: list[Piece]) -> None:
        """Read one piece outside of quotes."""
        text, at = self.text, self.at
        character = text[at]
        if character == "\\":
            if not text.startswith(("\\\n", "\\\r\n"), at):
                pieces.append(Quoted(text[at + 1 : at + 2]))
                self.at += 2
            else:
                self.at = text.index("\n", at) + 1
        elif character == "'":
            end = end_of_single(text, at + 1)
            self.quoted(pieces, at + 1, end, text[at + 1 : end])
        elif text.startswith("$'", at):
            end = end_of_single(text, at + 2, escapes=True)
            self.quoted(pieces, at + 2, end, unescaped(text[at + 2 : end]))
        elif character == '"' or text.startswith('$"', at):
            at += character == "$"
            end = end_of_double(text, at + 1)
            pieces.append(Double(self.in_double(at + 1, end)))
            self.at = end + 1
        elif character in "$`":
            self.dollar(pieces, False)
        elif character == GIVEN:
            pieces.append(Given(self.unknowns[at]))
            self.at += 1
        else:
            end = at + 1
            while end < len(text) and text[end] not in "\\'\"$`\0?*+@! \t\r\n;&|<>()":
                end += 1
            pieces.append(Literal(text[at:end]))
            self.at = end

    def quoted(self, pieces: list[Piece], start: int, end: int, text: str) -> None:
        """Add the text of single quotes, which holds parts that are not known where the script's own text does."""
        unknowns = [self.unknowns[i] for i in range(start, end) if self.text[i] == GIVEN]
        for index, part in enumerate(text.split(GIVEN) if unknowns else [text.replace(GIVEN, "")]):
            if index and index <= len(unknowns):
                pieces.append(Given(unknowns[index - 1], True))
            pieces.append(Quoted(part))
        self.at = end + 1

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

    # What is filled in

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
            close = _end_of_index(text, at + 1, end)
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
        stop = _divided(text, at, end, divider, mark[-1] in "#%:") if divider else end
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

    # Assignments

    def assignment(self) -> Assignment | None:
        """Read `name=value` at this position; None, and nothing read, for any other word."""
        text, start = self.text, self.at
        match = _NAME.match(text, start)
        if match is None:
            return None
        at, index = match.end(), None
        if text.startswith("[", at):
            close = _end_of_index(text, at + 1, len(text))
            if not text.startswith(("]=", "]+="), close) or "\n" in text[at:close]:
                return None
            index = self.plain(at + 1, close)
            at = close + 1
        is_added = text.startswith("+=", at)
        if not is_added and not text.startswith("=", at):
            return None
        self.at = at + (2 if is_added else 1)
        value: Word | tuple[tuple[Word | None, Word], ...]
        value = self.elements() if text.startswith("(", self.at) else self.word()
        return Assignment(match[0], index, is_added, value, start, self.at)

    def elements(self) -> tuple[tuple[Word | None, Word], ...]:
        """Read the elements of `(a b [3]=c)`."""
        found: list[tuple[Word | None, Word]] = []
        self.at += 1
        while True:
            self.blank(with_newlines=True)
            if self.text.startswith(")", self.at):
                self.at += 1
                return tuple(found)
            before, index = self.at, None
            if self.text.startswith("[", self.at):
                close = _end_of_index(self.text, self.at + 1, len(self.text))
                if self.text.startswith("]=", close):
                    index, self.at = self.plain(self.at + 1, close), close + 2
            found.append((index, self.word()))
            if self.at == before:
                raise CannotRead(f"line {self.line}: an array")

    def blank(self, with_newlines: bool = False) -> None:
        raise NotImplementedError


def _end_of_index(text: str, at: int, end: int) -> int:
    """Return where `]` closes an index; the end where nothing does."""
    depth = 0
    while at < end:
        if text[at] in "\"'":
            close = text.find(text[at], at + 1, end)
            at = close if close >= 0 else end
        elif text[at] == "[":
            depth += 1
        elif text[at] == "]":
            if not depth:
                return at
            depth -= 1
        elif text[at] == "\n":
            return end
        at += 1
    return end


def _divided(text: str, at: int, end: int, divider: str, may_be_empty: bool) -> int:
    """Return where the second part of `${x/from/to}` or `${x:1:2}` begins; the end without one."""
    start = at
    depth = 0
    while at < end:
        character = text[at]
        if character == "\\":
            at += 1
        elif character in "\"'":
            close = text.find(character, at + 1, end)
            at = close if close >= 0 else at
        elif text.startswith(("${", "$("), at):
            try:
                is_brace = text[at + 1] == "{"
                at = end_of_brace(text, at + 2, False) if is_brace else end_of_parenthesis(text, at + 2)  # fmt: skip
            except CannotRead:
                return end
        elif character == "?" and divider == ":":
            depth += 1
        elif character == divider and (at > start or may_be_empty):
            if not depth:
                return at
            depth -= 1
        at += 1
    return end
