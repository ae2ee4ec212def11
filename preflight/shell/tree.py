"""The text of a shell script as a tree: lists, pipelines, conditions, loops, functions, and words as written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field

from preflight.values import dataclass


class CannotRead(Exception):
    """The text is no script that is understood here; the message says where it ends."""


@dataclass(frozen=True)
class Redirection:
    """`> file`, or a here-document with its text."""

    operator: str
    target: str = ""
    """As written; the text of a here-document."""
    is_quoted: bool = False
    """Of a here-document: nothing in it is filled in."""


@dataclass(frozen=True)
class Simple:
    """A command: assignments and words as written, quotes and all."""

    words: tuple[str, ...]
    redirections: Sequence[Redirection]
    """Filled in when the here-documents behind the line have been read."""
    line: int


@dataclass(frozen=True)
class Compound:
    """`if`, `for`, `while`, `case`, `{`, `(`, `[[`, `((` or a function."""

    kind: str
    line: int
    word: str = ""
    """Of `for` the variable, of `case` the subject, of a function its name, of `[[` and `((` the text."""
    words: tuple[str, ...] = ()
    """Of `for`: what it goes over."""
    parts: tuple[tuple[tuple[str, ...], tuple[AndOr, ...], tuple[AndOr, ...]], ...] = ()
    """(patterns of a case, condition, body)."""
    redirections: Sequence[Redirection] = ()


@dataclass(frozen=True)
class Pipeline:
    commands: tuple[Command, ...]
    is_negated: bool = False


@dataclass(frozen=True)
class AndOr:
    """Pipelines with what stands in front of each: nothing, `&&` or `||`."""

    pipelines: tuple[tuple[str, Pipeline], ...] = field(default=())


Command = Simple | Compound

_ENDS_WORD = " \t\r\n;&|<>()"
_DEEPEST = 60
_OPERATORS = ("&>>", "<<<", "<<-", "&>", ">>", ">|", "<>", ">&", "<&", "<<", "<", ">")


def shell_tree(text: str) -> tuple[AndOr, ...]:
    """Return the statements of a script; raise CannotRead where it is none."""
    parser = _Parser(text)
    found = parser.statements(())
    if parser.position < len(text):
        raise CannotRead(f"line {parser.line}")
    return found


def words_in(text: str) -> list[str]:
    """Return the words of an array's text, line by line, without comments."""
    parser = _Parser(text)
    found: list[str] = []
    while True:
        parser.blank(with_newlines=True)
        if parser.position >= len(text):
            return found
        before = parser.position
        found.append(parser.word())
        if parser.position == before:
            raise CannotRead(f"`{text[before]}` in an array")


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.position = 0
        self.depth = 0
        self.waiting: list[tuple[str, bool, bool, list[Redirection], int]] = []

    @property
    def line(self) -> int:
        return self.text.count("\n", 0, self.position) + 1

    def blank(self, with_newlines: bool = False) -> None:
        text = self.text
        while self.position < len(text):
            if text.startswith(("\\\n", "\\\r\n"), self.position):
                self.position = text.index("\n", self.position) + 1
            elif text[self.position] in " \t\r":
                self.position += 1
            elif text[self.position] == "#" and (
                self.position == 0 or text[self.position - 1] in _ENDS_WORD
            ):
                end = text.find("\n", self.position)
                self.position = len(text) if end < 0 else end
            elif text[self.position] == "\n" and with_newlines:
                self.newline()
            else:
                return

    def newline(self) -> None:
        """Go past a line's end, and past the here-documents that begin behind it."""
        self.position += 1
        for mark, strips, is_quoted, place, index in self.waiting:
            lines = []
            while self.position < len(self.text):
                end = self.text.find("\n", self.position)
                end = len(self.text) if end < 0 else end
                line = self.text[self.position : end]
                self.position = min(len(self.text), end + 1)
                line = line.lstrip("\t") if strips else line
                if line == mark:
                    break
                lines.append(line + "\n")
            place[index] = Redirection("<<", "".join(lines), is_quoted)
        self.waiting = []

    def at(self, *marks: str) -> bool:
        return self.text.startswith(marks, self.position)

    def peek_word(self) -> str:
        end = self.position
        while end < len(self.text) and self.text[end] not in _ENDS_WORD:
            end += 1
        return self.text[self.position : end]

    def expect(self, word: str) -> None:
        self.blank(with_newlines=True)
        if not self.at(word):
            raise CannotRead(f"line {self.line}: no `{word}`")
        self.position += len(word)

    def statements(self, ends: tuple[str, ...]) -> tuple[AndOr, ...]:
        self.depth += 1
        if self.depth > _DEEPEST:
            raise CannotRead(f"line {self.line}: nested too deeply")
        found = []
        while True:
            self.blank(with_newlines=True)
            if self.position >= len(self.text) or self.peek_word() in ends:
                break
            if (")" in ends and self.at(")")) or (";;" in ends and self.at(";;", ";&")):
                break
            before = self.position
            found.append(self.and_or())
            self.blank()
            if (self.at(";") and not self.at(";;")) or (self.at("&") and not self.at("&&")):
                self.position += 1
            if self.position == before:
                raise CannotRead(f"line {self.line}")
        self.depth -= 1
        return tuple(found)

    def and_or(self) -> AndOr:
        found = [("", self.pipeline())]
        while True:
            self.blank()
            mark = next((m for m in ("&&", "||") if self.at(m)), "")
            if not mark:
                return AndOr(tuple(found))
            self.position += 2
            self.blank(with_newlines=True)
            found.append((mark, self.pipeline()))

    def pipeline(self) -> Pipeline:
        self.blank()
        is_negated = self.peek_word() == "!"
        if is_negated:
            self.position += 1
            self.blank()
        if self.peek_word() == "time":
            self.position += 4
            self.blank()
        found = [self.command()]
        while True:
            self.blank()
            if not self.at("|") or self.at("||"):
                return Pipeline(tuple(found), is_negated)
            self.position += 2 if self.at("|&") else 1
            self.blank(with_newlines=True)
            found.append(self.command())

    def command(self) -> Command:
        word, line = self.peek_word(), self.line
        if self.at("(("):
            return self.raw("((", "))", line)
        if word == "[[":
            return self.raw("[[", "]]", line)
        if self.at("("):
            return self.group("(", ")", line)
        if word == "{":
            return self.group("{", "}", line)
        if word in ("if", "while", "until", "for", "case", "function"):
            self.position += len(word)
            made: Compound = getattr(self, f"_{word}")(line)
            return made
        return self.simple(line)

    def raw(self, begin: str, end: str, line: int) -> Compound:
        at = self.text.find(end, self.position)
        if at < 0:
            raise CannotRead(f"line {line}: no `{end}`")
        text = self.text[self.position + len(begin) : at]
        self.position = at + len(end)
        return Compound(begin, line, text, (), (), self.redirections())

    def group(self, begin: str, end: str, line: int) -> Compound:
        self.position += 1
        body = self.statements((end,))
        self.expect(end)
        return Compound(begin, line, "", (), (((), (), body),), self.redirections())

    def _if(self, line: int) -> Compound:
        parts = []
        while True:
            condition = self.statements(("then",))
            self.expect("then")
            parts.append(((), condition, self.statements(("elif", "else", "fi"))))
            if self.peek_word() == "elif":
                self.position += 4
                continue
            if self.peek_word() == "else":
                self.position += 4
                parts.append(((), (), self.statements(("fi",))))
            self.expect("fi")
            return Compound("if", line, "", (), tuple(parts), self.redirections())

    def _while(self, line: int) -> Compound:
        condition = self.statements(("do",))
        return self.loop("while", line, "", (), condition)

    def _until(self, line: int) -> Compound:
        condition = self.statements(("do",))
        return self.loop("until", line, "", (), condition)

    def _for(self, line: int) -> Compound:
        self.blank()
        if self.at("(("):
            raise CannotRead(f"line {line}: `for ((`")
        variable = self.word()
        self.blank(with_newlines=True)
        words: tuple[str, ...] = ('"$@"',)
        if self.peek_word() == "in":
            self.position += 2
            found = []
            self.blank()
            while self.position < len(self.text) and self.text[self.position] not in _ENDS_WORD:
                found.append(self.word())
                self.blank()
            words = tuple(found)
        self.blank()
        if self.at(";"):
            self.position += 1
        return self.loop("for", line, variable, words, ())

    def loop(
        self,
        kind: str,
        line: int,
        word: str,
        words: tuple[str, ...],
        condition: tuple[AndOr, ...],
    ) -> Compound:
        self.expect("do")
        body = self.statements(("done",))
        self.expect("done")
        return Compound(kind, line, word, words, (((), condition, body),), self.redirections())

    def _case(self, line: int) -> Compound:
        self.blank()
        subject = self.word()
        self.expect("in")
        parts: list[tuple[tuple[str, ...], tuple[AndOr, ...], tuple[AndOr, ...]]] = []
        while True:
            self.blank(with_newlines=True)
            if self.peek_word() == "esac":
                self.position += 4
                return Compound("case", line, subject, (), tuple(parts), self.redirections())
            if self.at("("):
                self.position += 1
            patterns = []
            while True:
                self.blank()
                patterns.append(self.word())
                self.blank()
                if not self.at("|"):
                    break
                self.position += 1
            self.expect(")")
            body = self.statements((";;", "esac"))
            while self.at(";", "&"):
                self.position += 1
            parts.append((tuple(patterns), (), body))

    def _function(self, line: int) -> Compound:
        self.blank()
        name = self.word()
        self.blank()
        if self.at("("):
            self.position += 1
            self.expect(")")
        return self.function(name, line)

    def function(self, name: str, line: int) -> Compound:
        self.blank(with_newlines=True)
        body = self.command()
        if not isinstance(body, Compound) or body.kind not in "{(":
            raise CannotRead(f"line {line}: a function")
        return Compound("function", line, name, (), body.parts)

    def simple(self, line: int) -> Command:
        words: list[str] = []
        redirections: list[Redirection] = []
        while True:
            self.blank()
            if self.redirection(redirections):
                continue
            if self.position >= len(self.text) or self.text[self.position] in _ENDS_WORD:
                break
            words.append(self.word())
            if len(words) == 1 and self.at("()"):
                self.position += 2
                return self.function(words[0], line)
        if not words and not redirections:
            raise CannotRead(f"line {self.line}")
        return Simple(tuple(words), redirections, line)

    def redirections(self) -> list[Redirection]:
        found: list[Redirection] = []
        self.blank()
        while self.redirection(found):
            self.blank()
        return found

    def redirection(self, found: list[Redirection]) -> bool:
        """Read one redirection, with the number in front of it; tell whether there was one."""
        text, start = self.text, self.position
        end = start
        while end < len(text) and text[end].isdigit():
            end += 1
        operator = next((m for m in _OPERATORS if text.startswith(m, end)), "")
        if not operator or text.startswith(("<(", ">("), end):
            return False
        self.position = end + len(operator)
        number = text[start:end]
        self.blank()
        target = self.word()
        if operator in ("<<", "<<-"):
            mark = target.replace("\\", "").replace("'", "").replace('"', "")
            self.waiting.append((mark, operator == "<<-", mark != target, found, len(found)))
        found.append(Redirection(number + operator, target))
        return True

    def word(self) -> str:
        start, text = self.position, self.text
        while self.position < len(text):
            character = text[self.position]
            if text.startswith(("<(", ">("), self.position) and self.position == start:
                self.position += 1
                self.closing()
            elif character == "(" and text[start : self.position].endswith("="):
                self.closing()  # an array
            elif character in _ENDS_WORD:
                break
            else:
                self.piece()
        return text[start : self.position]

    def piece(self) -> None:
        text, at = self.text, self.position
        if text[at] == "\\":
            self.position += 2
        elif text[at] == "'" or text.startswith("$'", at):
            self.until("'", at + (1 if text[at] == "'" else 2), escapes=text[at] == "$")
        elif text[at] == '"':
            self.position += 1
            while self.position < len(text) and text[self.position] != '"':
                if text[self.position] in "\\`" or self.at("$(", "${"):
                    self.piece()
                else:
                    self.position += 1
            self.position += 1
        elif text.startswith("$(", at):
            self.position += 1
            self.closing()
        elif text.startswith("${", at):
            self.position += 2
            while self.position < len(text) and text[self.position] != "}":
                self.piece()
            self.position += 1
        elif text[at] == "`":
            self.until("`", at + 1)
        else:
            self.position += 1

    def until(self, mark: str, start: int, escapes: bool = False) -> None:
        while start < len(self.text) and self.text[start] != mark:
            start += 2 if escapes and self.text[start] == "\\" else 1
        if start >= len(self.text):
            raise CannotRead(f"line {self.line}: a quote that is never closed")
        self.position = start + 1

    def closing(self) -> None:
        """Go past a parenthesis and all in it."""
        line = self.line
        self.position += 1
        while self.position < len(self.text) and self.text[self.position] != ")":
            if self.text[self.position] == "(":
                self.closing()
            elif self.text[self.position] == "#" and self.text[self.position - 1] in " \t\n":
                end = self.text.find("\n", self.position)
                self.position = len(self.text) if end < 0 else end
            else:
                self.piece()
        if self.position >= len(self.text):
            raise CannotRead(f"line {line}: a parenthesis that is never closed")
        self.position += 1
