"""Whether a script's condition holds, as far as its text tells: `[ ... ]` and `[[ ... ]]`."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from preflight.lazy_pattern import lazy_pattern
from preflight.shell.grammar.arithmetic import NoNumber
from preflight.shell.grammar.patterns import NoPattern, glob, regex
from preflight.shell.grammar.syntax import Word
from preflight.shell.grammar.text import Text, array, known
from preflight.shell.meaning.expansion import pattern_of, text_of
from preflight.shell.meaning.state import State
from preflight.values import dataclass

Operand = Text | Word
Token = str | Operand
"""An operator, or a word: filled in (of `[`), or still to be (of `[[`)."""
_NUMBERS: dict[str, Callable[[int, int], bool]] = {
    "-eq": lambda left, right: left == right,
    "-ne": lambda left, right: left != right,
    "-lt": lambda left, right: left < right,
    "-le": lambda left, right: left <= right,
    "-gt": lambda left, right: left > right,
    "-ge": lambda left, right: left >= right,
}
_BINARY = (*_NUMBERS, "=", "==", "!=", "=~", "<", ">", "-nt", "-ot", "-ef")
_UNARY = lazy_pattern(r"-[abcdefghknoprstuvwxzGLNORS]")
Answer = bool | None


def bracket_holds(words: Sequence[Text], state: State) -> Answer:
    """Return whether `[ words ]` holds; None where that is not known."""
    marks = ("(", ")", "!", "-a", "-o")
    tokens: list[Token] = [word.known if word.known in marks else word for word in words]
    if len(tokens) == 3 and isinstance(words[1], Text) and words[1].known in _BINARY:
        tokens = list(words)  # `[ "(" = x ]`
    elif len(tokens) == 1:
        tokens = list(words)
    return _holds(tokens, state, is_double=False)


def double_holds(tokens: Sequence[Token], state: State) -> Answer:
    """Return whether `[[ tokens ]]` holds; None where that is not known."""
    return _holds(list(tokens), state, is_double=True)


def _holds(tokens: list[Token], state: State, is_double: bool) -> Answer:
    reader = _Reader(tokens, state, is_double)
    try:
        if not tokens:
            return False
        answer = reader.either()
    except (NoNumber, NoPattern, IndexError):
        return None
    return answer if reader.at >= len(tokens) else None


@dataclass
class _Reader:
    tokens: list[Token]
    state: State
    is_double: bool
    at: int = 0

    def takes(self, *operators: str) -> bool:
        found = self.at < len(self.tokens) and self.tokens[self.at] in operators
        self.at += found
        return found

    def either(self) -> Answer:
        answer = self.both()
        while self.takes("||", "-o"):
            other = self.both()
            answer = True if answer or other else None if None in (answer, other) else False
        return answer

    def both(self) -> Answer:
        answer = self.not_()
        while self.takes("&&", "-a"):
            other = self.not_()
            answer = False if answer is False or other is False else None if None in (answer, other) else True  # fmt: skip
        return answer

    def not_(self) -> Answer:
        if self.takes("!"):
            answer = self.not_()
            return None if answer is None else not answer
        if self.takes("("):
            answer = self.either()
            self.at += 1
            return answer
        return self.one()

    def operator(self, place: int) -> str:
        """Return the operator at a place; nothing where there is a word that is none."""
        if place >= len(self.tokens):
            return ""
        token = self.tokens[place]
        if isinstance(token, str):
            return token if token in _BINARY else ""
        return token.raw if isinstance(token, Word) else token.known or ""

    def one(self) -> Answer:
        first = self.tokens[self.at]
        second = self.operator(self.at + 1)
        if second in _BINARY and self.at + 2 < len(self.tokens):
            self.at += 3
            return self.compared(self.word(self.at - 3), second, self.at - 1)
        name = first if isinstance(first, str) else first.raw if isinstance(first, Word) else first.known or ""  # fmt: skip
        if _UNARY.fullmatch(name) and self.at + 1 < len(self.tokens) and not self.ends(self.at + 1):
            self.at += 2
            return self.tested(name, self.word(self.at - 1))
        text = self.word(self.at)
        self.at += 1
        return _is_filled(text)

    def ends(self, place: int) -> bool:
        return self.tokens[place] in ("&&", "||", ")", "-a", "-o")

    def word(self, place: int) -> Text:
        token = self.tokens[place]
        if isinstance(token, str):
            return known(token)
        return text_of(token, self.state) if isinstance(token, Word) else token

    def compared(self, left: Text, operator: str, place: int) -> Answer:
        right_token = self.tokens[place]
        if operator in _NUMBERS:
            if self.is_double:
                numbers = self.state.number(left), self.state.number(self.word(place))
            else:
                numbers = _plain_number(left), _plain_number(self.word(place))
            if numbers[0] is None or numbers[1] is None:
                return None
            return _NUMBERS[operator](numbers[0], numbers[1])
        value = left.known
        if operator == "=~":
            return None if value is None else self.matched(value, right_token)
        if self.is_double and operator in ("=", "==", "!="):
            if not isinstance(right_token, Word):
                return None
            parts = pattern_of(right_token, self.state)
            if parts is None or value is None:
                return None
            return glob(parts).fits(value, self.state.world.steps) is (operator != "!=")
        other = self.word(place)
        right = other.known
        if value is None or right is None:
            # A text that is not known is another one than the empty text.
            if operator in ("=", "==", "!=") and (_is_filled(left), _is_filled(other)) in ((True, False), (False, True)):  # fmt: skip
                return operator == "!="
            return None
        if operator in ("<", ">"):
            return value < right if operator == "<" else value > right
        if operator in ("=", "==", "!="):
            return (value == right) is (operator != "!=")
        return None

    def matched(self, value: str, token: Token) -> Answer:
        """Return whether a regular expression fits, and set BASH_REMATCH."""
        parts = pattern_of(token, self.state) if isinstance(token, Word) else None
        if parts is None:
            return None
        text = "".join(re.sub(r"(\W)", r"\\\1", part) if quoted else part for part, quoted in parts)
        match = regex(text).search(value, self.state.world.steps)
        groups = [] if match is None else [value[match.start : match.end], *(value[a:b] if (a, b) != (0, 0) else "" for a, b in (pair or (0, 0) for pair in match.groups))]  # fmt: skip
        self.state.values["BASH_REMATCH"] = array([known(group) for group in groups])
        return match is not None

    def tested(self, operator: str, text: Text) -> Answer:
        state = self.state
        if operator in ("-z", "-n"):
            filled = _is_filled(text)
            return None if filled is None else filled is (operator == "-n")
        if operator == "-v":
            name = (text.known or "").partition("[")[0]
            if name and state.get(name) is not None:
                return True
            return None if not name or state.world.is_partial else False
        path = state.path(text)
        if path is None or text.known == "":
            return None if text.known != "" else False
        files = state.world.files
        if not files.opens and path not in files.written:
            return None
        if operator in ("-f", "-s"):
            return files.is_file(path)
        if operator in ("-e", "-a", "-r"):
            return files.exists(path)
        if operator == "-d":
            return files.is_folder(path)
        if operator == "-x" and files.is_folder(path):
            return True
        return None


def _is_filled(text: Text) -> Answer:
    """Return whether a text is not empty; what is not known may be empty, unless something known stands beside it."""
    value = text.known
    if value is not None:
        return value != ""
    return True if any(isinstance(part, str) for part in text.parts) else None


def _plain_number(text: Text) -> int | None:
    value = text.known
    return int(value) if value is not None and re.fullmatch(r"\s*[-+]?\d{1,18}\s*", value) else None
