"""The commands that begin with a reserved word, parsed: groups, conditions, loops, `case`, functions, `[[`."""

from __future__ import annotations

from preflight.shell.grammar.expansion_parser import ENDS_WORD
from preflight.shell.grammar.syntax import (
    AndOr,
    CannotRead,
    Case,
    Command,
    Count,
    For,
    Function,
    Group,
    If,
    Loop,
    Redirection,
    Simple,
    Test,
    Word,
)
from preflight.shell.grammar.word_parser import WordParser


class CommandParser(WordParser):
    """Reads a command behind its reserved word. The parser of lists stands on it, because bodies are lists."""

    def braces(self, line: int) -> Group:
        body = self.statements(("}",))
        self.expect("}")
        return Group(line, body, False, self.redirections())

    def branch(self, line: int) -> If:
        arms: list[tuple[tuple[AndOr, ...] | None, tuple[AndOr, ...]]] = []
        while True:
            condition = self.statements(("then",))
            self.expect("then")
            arms.append((condition, self.statements(("elif", "else", "fi"))))
            if self.peek() == "elif":
                self.at += 4
                continue
            if self.peek() == "else":
                self.at += 4
                arms.append((None, self.statements(("fi",))))
            self.expect("fi")
            return If(line, tuple(arms), self.redirections())

    def loop(self, line: int, is_until: bool = False) -> Loop:
        condition = self.statements(("do",))
        return Loop(line, condition, self.body(), is_until, self.redirections())

    def until(self, line: int) -> Loop:
        return self.loop(line, True)

    def body(self) -> tuple[AndOr, ...]:
        self.blank(with_newlines=True)
        if self.peek() == "{":
            self.at += 1
            found = self.statements(("}",))
            self.expect("}")
            return found
        self.expect("do")
        found = self.statements(("done",))
        self.expect("done")
        return found

    def every(self, line: int, is_select: bool = False) -> For | Count:
        self.blank()
        if self.starts("(("):
            return self.count(line)
        name = self.word().raw
        self.blank(with_newlines=True)
        words: tuple[Word, ...] | None = None
        if self.peek() == "in":
            self.at += 2
            found = []
            self.blank()
            while self.at < len(self.text) and (
                self.text[self.at] not in ENDS_WORD or self.starts("<(")
            ):
                found.append(self.word())
                self.blank()
            words = tuple(found)
        self.blank()
        if self.starts(";"):
            self.at += 1
        return For(line, name, words, self.body(), is_select, self.redirections())

    def select(self, line: int) -> For | Count:
        return self.every(line, True)

    def count(self, line: int) -> Count:
        end = self.end_of_arithmetic(self.at + 2)
        if not end:
            raise CannotRead(f"line {line}: `for ((`")
        starts = [self.at + 2]
        depth = 0
        for place in range(self.at + 2, end):
            depth += {"(": 1, ")": -1}.get(self.text[place], 0)
            if self.text[place] == ";" and not depth:
                starts.append(place + 1)
        if len(starts) != 3:
            raise CannotRead(f"line {line}: `for ((`")
        ends = [starts[1] - 1, starts[2] - 1, end]
        first, condition, step = (self.plain(a, b) for a, b in zip(starts, ends, strict=True))
        self.at = end + 2
        self.blank()
        if self.starts(";"):
            self.at += 1
        return Count(line, (first, condition, step), self.body(), self.redirections())

    def case(self, line: int) -> Case:
        self.blank()
        subject = self.word()
        self.expect("in")
        arms: list[tuple[tuple[Word, ...], tuple[AndOr, ...], str]] = []
        while True:
            self.blank(with_newlines=True)
            if self.peek() == "esac":
                self.at += 4
                return Case(line, subject, tuple(arms), self.redirections())
            if self.starts("("):
                self.at += 1
            patterns = []
            while True:
                self.blank()
                patterns.append(self.word(is_pattern=True))
                self.blank()
                if not self.starts("|"):
                    break
                self.at += 1
            self.expect(")")
            body = self.statements((";;", "esac"))
            mark = next((mark for mark in (";;&", ";;", ";&") if self.starts(mark)), "")
            self.at += len(mark)
            arms.append((tuple(patterns), body, mark or ";;"))

    def named(self, line: int) -> Function:
        """Read a function behind the word `function`."""
        self.blank()
        name = self.word().raw
        self.blank()
        if self.starts("("):
            self.at += 1
            self.expect(")")
        return self.function(name, line)

    def function(self, name: str, line: int) -> Function:
        self.blank(with_newlines=True)
        body = self.command()
        if isinstance(body, Simple):
            raise CannotRead(f"line {line}: a function")
        return Function(line, name, body)

    def test(self, line: int) -> Test:
        """Read `[[ ... ]]` as words and operators."""
        self.at += 2
        tokens: list[str | Word] = []
        while True:
            self.blank(with_newlines=True)
            if self.at >= len(self.text):
                raise CannotRead(f"line {line}: no `]]`")
            if self.peek() == "]]":
                self.at += 2
                return Test(line, tuple(tokens), self.redirections())
            mark = next((m for m in ("&&", "||", "(", ")", "<", ">") if self.starts(m)), "")
            last = tokens[-1] if tokens else ""
            if isinstance(last, Word) and last.raw == "=~":
                tokens.append(self.regex())
            elif mark and not self.starts("<("):
                tokens.append(mark)
                self.at += len(mark)
            elif self.peek() == "!":
                tokens.append("!")
                self.at += 1
            else:
                before = self.at
                tokens.append(self.word(is_pattern=True))
                if self.at == before:
                    raise CannotRead(f"line {line}: `[[`")

    # What the parser of lists has

    def command(self) -> Command:
        raise NotImplementedError

    def redirections(self) -> list[Redirection]:
        raise NotImplementedError

    def starts(self, *marks: str) -> bool:
        return self.text.startswith(marks, self.at)

    def peek(self) -> str:
        """Return the word at this position as it stands, to be compared with a reserved word."""
        end = self.at
        while end < len(self.text) and self.text[end] not in ENDS_WORD:
            end += 1
        return self.text[self.at : end]

    def expect(self, word: str) -> None:
        self.blank(with_newlines=True)
        if not self.starts(word):
            raise CannotRead(f"line {self.line}: no `{word}`")
        self.at += len(word)
