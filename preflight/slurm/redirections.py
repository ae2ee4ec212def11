"""Where a script's output goes, written again: every `> file` becomes one below a folder of ours.

`cat <<EOF > $config` must not touch the user's folder, and the text must be found again. The number of
lines stays, and what is not understood stays as it is: the sandbox then refuses to write it.
"""

from __future__ import annotations

import re

_HEREDOC = re.compile(r"<<-?[ \t]*(\\?[A-Za-z_][\w.-]*|'[^'\n]+'|\"[^\"\n]+\")")
_OPERATOR = re.compile(r"&>>|&>|>>|>\||<>|>&|<&|<<<|<|>")
_BLANK = " \t"
_ENDS_WORD = " \t\n;&|<>()"


def redirected(text: str) -> str:
    """Return a script with its redirections through `__pf_target_of` and `__pf_source_of`."""
    return _Rewriting(text).whole()


class _Rewriting:
    """One walk through the text; `out` is what has been written so far."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.position = 0
        self.out: list[str] = []
        self.heredocs: list[tuple[str, bool]] = []
        self.depth = 0

    def whole(self) -> str:
        while self.position < len(self.text):
            self.commands("")
            if self.position < len(self.text):
                self.take(1)  # a parenthesis that nothing opened: of a case
        return "".join(self.out)

    def take(self, number: int) -> None:
        self.out.append(self.text[self.position : self.position + number])
        self.position += number

    def take_to(self, end: int) -> None:
        self.take(max(0, min(end, len(self.text)) - self.position))

    def find(self, mark: str, start: int) -> int:
        """Return the position behind the next mark; the end of the text without one."""
        at = self.text.find(mark, start)
        return len(self.text) if at < 0 else at + len(mark)

    def commands(self, closing: str) -> None:
        """Copy commands up to a closing character, which is left, or to the end."""
        text = self.text
        self.depth += 1
        if self.depth > 200:
            self.take_to(len(text))
        starts_word = True
        while self.position < len(text):
            at, character = self.position, text[self.position]
            if character == closing:
                break
            if character == "\n":
                self.take(1)
                self.bodies()
            elif character == "#" and starts_word:
                end = text.find("\n", at)
                self.take_to(len(text) if end < 0 else end)
            elif text.startswith("((", at) and starts_word:
                self.take_to(self.find("))", at))
            elif text.startswith("[[", at) and starts_word:
                self.take_to(self.find("]]", at))
            elif character == "(":
                self.take(1)
                self.commands(")")
                self.take(1)
            elif text.startswith(("<(", ">("), at):
                self.take(2)
                self.commands(")")
                self.take(1)
            elif (heredoc := _HEREDOC.match(text, at)) and not text.startswith("<<<", at):
                strips = text.startswith("<<-", at)
                self.heredocs.append((heredoc[1].strip("\\'\""), strips))
                self.take_to(heredoc.end())
            elif operator := _OPERATOR.match(text, at):
                self.redirection(operator[0])
            elif character in _ENDS_WORD:
                self.take(1)
            else:
                self.piece()
                starts_word = False
                continue
            starts_word = True
        self.depth -= 1

    def bodies(self) -> None:
        """Copy the texts of the here-documents that the line before began."""
        for mark, strips in self.heredocs:
            while self.position < len(self.text):
                end = self.find("\n", self.position)
                line = self.text[self.position : end].rstrip("\n")
                self.take_to(end)
                if (line.lstrip("\t") if strips else line) == mark:
                    break
        self.heredocs = []

    def piece(self) -> None:
        """Copy one character of a word, or one quoted or substituted piece of it."""
        text, at = self.text, self.position
        if text[at] == "\\":
            self.take(2)
        elif text[at] == "'":
            self.take_to(self.find("'", at + 1))
        elif text[at] == '"':
            self.double_quoted()
        elif text.startswith("$((", at):
            self.take_to(self.find("))", at))
        elif text.startswith("$(", at):
            self.take(2)
            self.commands(")")
            self.take(1)
        elif text.startswith("$'", at):
            end = at + 2
            while end < len(text) and text[end] != "'":
                end += 2 if text[end] == "\\" else 1
            self.take_to(end + 1)
        elif text.startswith("${", at):
            self.take_to(self.find("}", at))
        elif text[at] == "`":
            self.take_to(self.find("`", at + 1))
        else:
            self.take(1)

    def double_quoted(self) -> None:
        self.take(1)
        while self.position < len(self.text) and self.text[self.position] != '"':
            if self.text.startswith("$(", self.position) or self.text[self.position] in "\\`":
                self.piece()
            else:
                self.take(1)
        self.take(1)

    def redirection(self, operator: str) -> None:
        self.take(len(operator))
        if operator in ("<>", ">&", "<&", "<<<"):
            return
        while self.position < len(self.text) and self.text[self.position] in _BLANK:
            self.take(1)
        start, kept = self.position, len(self.out)
        if self.text.startswith(("<(", ">(", "&"), start):
            return
        while self.position < len(self.text) and self.text[self.position] not in _ENDS_WORD:
            self.piece()
        word = self.text[start : self.position]
        del self.out[kept:]
        if not word or "\n" in word or word.startswith("/dev/"):
            self.out.append(word)
        elif operator == "<":
            self.out.append(f'"$(__pf_source_of {word})"')
        else:
            more = " append" if operator.endswith(">>") else ""
            self.out.append(f'"$(__pf_target_of {word}{more})"')
