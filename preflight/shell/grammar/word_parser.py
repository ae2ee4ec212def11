"""The words of shell text, each with the pieces it is made of: quotes, parameters, substitutions, arrays."""

from __future__ import annotations

import re

from preflight.lazy_pattern import lazy_pattern
from preflight.shell.grammar.expansion_parser import ENDS_WORD, GIVEN, ExpansionParser
from preflight.shell.grammar.scanning import (
    end_of_double,
    end_of_index,
    end_of_parenthesis,
    end_of_single,
    unescaped,
)
from preflight.shell.grammar.syntax import (
    Assignment,
    CannotRead,
    Double,
    Given,
    Literal,
    Piece,
    Quoted,
    Word,
)

_NAME = lazy_pattern(r"[A-Za-z_]\w*", re.ASCII)


class WordParser(ExpansionParser):
    """Reads words at a position."""

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

    # Assignments

    def assignment(self) -> Assignment | None:
        """Read `name=value` at this position; None, and nothing read, for any other word."""
        text, start = self.text, self.at
        match = _NAME.match(text, start)
        if match is None:
            return None
        at, index = match.end(), None
        if text.startswith("[", at):
            close = end_of_index(text, at + 1, len(text))
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
                close = end_of_index(self.text, self.at + 1, len(self.text))
                if self.text.startswith("]=", close):
                    index, self.at = self.plain(self.at + 1, close), close + 2
            found.append((index, self.word()))
            if self.at == before:
                raise CannotRead(f"line {self.line}: an array")

    def blank(self, with_newlines: bool = False) -> None:
        raise NotImplementedError
