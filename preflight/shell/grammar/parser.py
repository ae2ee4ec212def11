"""Shell text parsed into statements: lists, pipelines, conditions, loops, functions, here-documents.

One pass from left to right. Words are cut into pieces as they are met, and the statements inside `$(...)`
are parsed in place, so that every command knows its line and every word its position.
"""

from __future__ import annotations

from collections.abc import Callable

from preflight.shell.grammar.command_parser import CommandParser
from preflight.shell.grammar.expansion_parser import DEEPEST, ENDS_WORD, GIVEN
from preflight.shell.grammar.scanning import end_of_parenthesis
from preflight.shell.grammar.syntax import (
    AndOr,
    Arithmetic,
    Assignment,
    CannotRead,
    Command,
    Group,
    Pipeline,
    Quoted,
    Redirection,
    Simple,
    Word,
)
from preflight.shell.grammar.text import Text, Unknown

DECLARING = ("export", "declare", "typeset", "local", "readonly")
_OPERATORS = ("&>>", "<<<", "<<-", "&>", ">>", ">|", "<>", ">&", "<&", "<<", "<", ">")
_BEGIN_OPERATORS = frozenset(mark[0] for mark in _OPERATORS)


def parse(text: Text) -> tuple[AndOr, ...]:
    """Return the statements of a text, parts of which may not be known; raise CannotRead where it is no script."""
    pieces, unknowns, length = [], {}, 0
    for part in text.parts:
        if isinstance(part, Unknown):
            unknowns[length] = part
            pieces.append(GIVEN)
        else:
            pieces.append(part.replace(GIVEN, ""))
        length += len(pieces[-1])
    parser = Parser("".join(pieces), unknowns)
    try:
        found = parser.statements(())
    except RecursionError:
        raise CannotRead("a place that is nested too deeply") from None
    if parser.at < len(parser.text):
        raise CannotRead(f"line {parser.line}")
    return found


class Parser(CommandParser):
    """Reads statements at a position."""

    def blank(self, with_newlines: bool = False) -> None:
        """Go past blanks, comments and joined lines."""
        text = self.text
        while self.at < len(text):
            character = text[self.at]
            if character in " \t\r":
                self.at += 1
            elif character == "\\" and text.startswith(("\\\n", "\\\r\n"), self.at):
                self.at = text.index("\n", self.at) + 1
            elif character == "#" and (self.at == 0 or text[self.at - 1] in ENDS_WORD):
                end = text.find("\n", self.at)
                self.at = len(text) if end < 0 else end
            elif character == "\n" and with_newlines:
                self.newline()
            else:
                return

    def newline(self) -> None:
        """Go past a line's end, and past the here-documents that begin behind it."""
        self.at += 1
        for mark, strips, is_quoted, place, index in self.waiting:
            start, end = self.at, self.at
            while self.at < len(self.text):
                end = self.at
                stop = self.text.find("\n", self.at)
                stop = len(self.text) if stop < 0 else stop
                line = self.text[self.at : stop]
                self.at = min(len(self.text), stop + 1)
                if (line.lstrip("\t") if strips else line) == mark:
                    break
                end = self.at
            place[index] = Redirection("<<", "", self.document(start, end, strips, is_quoted))
        self.waiting = []

    def document(self, start: int, end: int, strips: bool, is_quoted: bool) -> Word:
        """Return the text of a here-document as a word."""
        if strips:
            lines = self.text[start:end].splitlines(keepends=True)
            inner = type(self)("".join(line.lstrip("\t") for line in lines), {}, self.depth + 1)
            return inner.document(0, len(inner.text), False, is_quoted)
        if is_quoted:
            return Word(start, end, "", (Quoted(self.shown(start, end)),))
        return self.plain(start, end)

    # Lists

    def statements(self, ends: tuple[str, ...]) -> tuple[AndOr, ...]:
        """Read statements up to one of the words that may end them here."""
        self.depth += 1
        if self.depth > DEEPEST:
            self.depth -= 1
            raise CannotRead(f"line {self.line}: nested too deeply")
        found = []
        try:
            while True:
                self.blank(with_newlines=True)
                if self.at >= len(self.text) or self.peek() in ends:
                    break
                if (")" in ends and self.starts(")")) or (";;" in ends and self.starts(";;", ";&")):
                    break
                before = self.at
                found.append(self.and_or())
                self.blank()
                if self.starts(";", "&") and not self.starts(";;", ";&", "&&"):
                    self.at += 1
                elif self.starts("("):
                    raise CannotRead(f"line {self.line}: `(`")
                if self.at == before:
                    raise CannotRead(f"line {self.line}")
        finally:
            self.depth -= 1
        return tuple(found)

    def and_or(self) -> AndOr:
        found = [("", self.pipeline())]
        while True:
            self.blank()
            mark = next((mark for mark in ("&&", "||") if self.starts(mark)), "")
            if not mark:
                return AndOr(tuple(found))
            self.at += 2
            self.blank(with_newlines=True)
            found.append((mark, self.pipeline()))

    def pipeline(self) -> Pipeline:
        is_negated = False
        while True:
            self.blank()
            word = self.peek()
            if word == "!":
                is_negated = not is_negated
            elif word != "time":
                break
            self.at += len(word)
            if word == "time":
                self.blank()
                self.at += 2 if self.peek() == "-p" else 0
        found = [self.command()]
        while True:
            self.blank()
            if not self.starts("|") or self.starts("||"):
                return Pipeline(tuple(found), is_negated)
            self.at += 2 if self.starts("|&") else 1
            self.blank(with_newlines=True)
            found.append(self.command())

    # Commands

    def command(self) -> Command:
        word, line = self.peek(), self.line
        if self.starts("((") and (end := self.end_of_arithmetic(self.at + 2)):
            text = self.plain(self.at + 2, end)
            self.at = end + 2
            return Arithmetic(line, text, self.redirections())
        if word == "[[":
            return self.test(line)
        if self.starts("("):
            self.at += 1
            body = self.statements((")",))
            self.expect(")")
            return Group(line, body, True, self.redirections())
        readers: dict[str, Callable[[int], Command]] = {
            "{": self.braces, "if": self.branch, "while": self.loop, "until": self.until,
            "for": self.every, "select": self.select, "case": self.case, "function": self.named,
        }  # fmt: skip
        reader = readers.get(word)
        if reader is None:
            if word == "coproc":
                raise CannotRead(f"line {line}: `coproc`")
            return self.simple(line)
        self.at += len(word)
        return reader(line)

    def simple(self, line: int) -> Command:
        assignments: list[Assignment] = []
        words: list[Word | Assignment] = []
        redirections: list[Redirection] = []
        end = self.at
        while True:
            self.blank()
            if self.redirection(redirections):
                continue
            if self.at >= len(self.text):
                break
            if self.text[self.at] in ENDS_WORD and not self.starts("<(", ">("):
                break
            declares = bool(words) and isinstance(words[0], Word) and words[0].raw in DECLARING
            assigned = self.assignment() if declares or not words else None
            if assigned is not None:
                if words:
                    words.append(assigned)
                else:
                    assignments.append(assigned)
                end = self.at
                continue
            before = self.at
            word = self.word()
            if self.at == before:
                raise CannotRead(f"line {self.line}")
            words.append(word)
            end = self.at
            if len(words) == 1 and not assignments and self.at < len(self.text):
                mark = self.at
                self.blank()
                if self.starts("(") and self.text[self.at + 1 :].lstrip(" \t")[:1] == ")":
                    self.at = end_of_parenthesis(self.text, self.at + 1) + 1
                    return self.function(word.raw, line)
                self.at = mark
        if not words and not redirections and not assignments:
            raise CannotRead(f"line {self.line}")
        return Simple(line, tuple(assignments), tuple(words), redirections, end)

    def redirections(self) -> list[Redirection]:
        found: list[Redirection] = []
        self.blank()
        while self.redirection(found):
            self.blank()
        return found

    def redirection(self, found: list[Redirection]) -> bool:
        """Read one redirection, with the number in front of it; tell whether there was one."""
        text, start = self.text, self.at
        end = start
        while end < len(text) and text[end].isdigit():
            end += 1
        if end == start and text.startswith("{", start):
            close = text.find("}", start)
            if close > 0 and text[start + 1 : close].isidentifier() and text[close + 1 : close + 2] in tuple("<>"):  # fmt: skip
                end = close + 1
        if text[end : end + 1] not in _BEGIN_OPERATORS:
            return False
        operator = next((mark for mark in _OPERATORS if text.startswith(mark, end)), "")
        if not operator or text.startswith(("<(", ">("), end):
            return False
        self.at = end + len(operator)
        number = text[start:end]
        self.blank()
        target = self.word()
        if operator in ("<<", "<<-"):
            mark = target.raw.replace("\\", "").replace("'", "").replace('"', "")
            self.waiting.append((mark, operator == "<<-", mark != target.raw, found, len(found)))
        found.append(Redirection(operator, number, target))
        return True
