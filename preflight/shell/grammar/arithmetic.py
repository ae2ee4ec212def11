"""A shell's arithmetic: `$((...))`, `((...))` and indices. A number that is not known makes the result unknown.

Precedence climbing, with the levels of bash(1), ARITHMETIC EVALUATION. What a `?:`, `&&` or `||` does not
come to is read and not evaluated, so that it assigns nothing.
"""

from __future__ import annotations

from collections.abc import Callable

from preflight.lazy_pattern import lazy_pattern

Number = int | None
"""None: not known."""
Get = Callable[[str, Number, bool], Number]
"""Return the number of a variable: name, index, whether it has one."""
Set = Callable[[str, Number, bool, Number], None]
"""Set a variable to a number: name, index, whether it has one, value."""
_TOKEN = lazy_pattern(
    r"\s*(?:(\d+#[0-9A-Za-z@_]+|0[xX][0-9a-fA-F]+|\d+)|([A-Za-z_]\w*)"
    r"|(<<=|>>=|\*\*|\+\+|--|<<|>>|<=|>=|==|!=|&&|\|\||[-+*/%&^|]=|[-+*/%<>()?:!&|^~=,\[\]]))"
)
_LEVELS = (("||",), ("&&",), ("|",), ("^",), ("&",), ("==", "!="), ("<=", ">=", "<", ">"), ("<<", ">>"), ("+", "-"), ("*", "/", "%"))  # fmt: skip
_ASSIGNS = ("=", "+=", "-=", "*=", "/=", "%=", "&=", "^=", "|=", "<<=", ">>=")
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ@_"
MOST_TOKENS = 2_000


class NoNumber(Exception):
    """The text is no arithmetic; bash would complain."""


def evaluate(text: str, get: Get, set_: Set) -> Number:
    """Return the value of an expression; raise NoNumber where it is none."""
    try:
        reader = _Reader(_tokens(text), get, set_)
        value = reader.comma(True) if reader.tokens else 0
    except RecursionError:
        raise NoNumber(text) from None
    if reader.at < len(reader.tokens):
        raise NoNumber(text)
    return value


def _tokens(text: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    at = 0
    text = text.strip()
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None or len(found) > MOST_TOKENS:
            raise NoNumber(text)
        number, name, operator = match.groups()
        found.append(("number", number) if number else ("name", name) if name else ("", operator))
        at = match.end()
    return found


def _number(text: str) -> int:
    base, mark, digits = text.partition("#")
    if not mark:
        try:
            is_octal = len(text) > 1 and text[0] == "0" and text[1] not in "xX"
            return _wrapped(int(text, 8 if is_octal else 0))
        except ValueError:
            raise NoNumber(text) from None
    value, size = 0, int(base)
    if not 2 <= size <= 64:
        raise NoNumber(text)
    for digit in digits:
        one = _DIGITS.find(digit.lower() if size <= 36 else digit)
        if one < 0 or one >= size:
            raise NoNumber(text)
        value = value * size + one
    return _wrapped(value)


def _wrapped(value: int) -> int:
    """Return a number as 64 bits hold it."""
    return (value + (1 << 63)) % (1 << 64) - (1 << 63)


class _Reader:
    def __init__(self, tokens: list[tuple[str, str]], get: Get, set_: Set) -> None:
        self.tokens = tokens
        self.at = 0
        self.get = get
        self.set = set_

    def takes(self, *operators: str) -> str:
        """Go past one of some operators; return which, or nothing."""
        if self.at < len(self.tokens):
            kind, text = self.tokens[self.at]
            if not kind and text in operators:
                self.at += 1
                return text
        return ""

    def needs(self, operator: str) -> None:
        if not self.takes(operator):
            raise NoNumber(f"no `{operator}`")

    def comma(self, counts: bool) -> Number:
        value = self.assignment(counts)
        while self.takes(","):
            value = self.assignment(counts)
        return value

    def place(self, counts: bool) -> tuple[str, Number, bool]:
        """Read a name with its index."""
        name = self.tokens[self.at][1]
        self.at += 1
        if not self.takes("["):
            return name, 0, False
        index = self.comma(counts)
        self.needs("]")
        return name, index, True

    def assignment(self, counts: bool) -> Number:
        start = self.at
        if start < len(self.tokens) and self.tokens[start][0] == "name":
            name, index, has_index = self.place(False)
            if operator := self.takes(*_ASSIGNS):
                end = self.at
                if has_index and counts:
                    self.at = start
                    name, index, has_index = self.place(True)
                    self.at = end
                value = self.assignment(counts)
                if operator != "=" and counts:
                    value = _applied(operator[:-1], self.get(name, index, has_index), value)
                if counts:
                    self.set(name, index, has_index, value)
                return value
            self.at = start
        return self.choice(counts)

    def choice(self, counts: bool) -> Number:
        condition = self.binary(0, counts)
        if not self.takes("?"):
            return condition
        first = self.assignment(counts and condition is not None and condition != 0)
        self.needs(":")
        second = self.assignment(counts and condition == 0)
        return None if condition is None else first if condition else second

    def binary(self, level: int, counts: bool) -> Number:
        if level == len(_LEVELS):
            return self.power(counts)
        value = self.binary(level + 1, counts)
        while operator := self.takes(*_LEVELS[level]):
            if operator in ("&&", "||"):
                decided = value is not None and (value != 0) is (operator == "||")
                right = self.binary(level + 1, counts and not decided and value is not None)
                if decided or (
                    right is not None and (right != 0) is (operator == "||") and value is None
                ):
                    value = int(operator == "||")
                else:
                    value = None if value is None or right is None else int(right != 0)
            else:
                right = self.binary(level + 1, counts)
                # What does not count may divide by zero.
                value = _applied(operator, value, right) if counts else 0
        return value

    def power(self, counts: bool) -> Number:
        value = self.unary(counts)
        if self.takes("**"):
            return _applied("**", value, self.power(counts))
        return value

    def unary(self, counts: bool) -> Number:
        if operator := self.takes("++", "--"):
            if self.at < len(self.tokens) and self.tokens[self.at][0] == "name":
                place = self.place(counts)
                return self.changed(place, 1 if operator == "++" else -1, counts, True)
            self.at -= 1  # `--5` is minus minus five
            self.tokens[self.at : self.at + 1] = [("", operator[0])] * 2
        if operator := self.takes("-", "+", "!", "~"):
            value = self.unary(counts)
            if value is None:
                return None
            return {"-": _wrapped(-value), "+": value, "!": int(not value), "~": ~value}[operator]
        if self.takes("("):
            value = self.comma(counts)
            self.needs(")")
            return value
        if self.at >= len(self.tokens) or not self.tokens[self.at][0]:
            raise NoNumber("an operand is missing")
        kind, text = self.tokens[self.at]
        if kind == "number":
            self.at += 1
            return _number(text)
        place = self.place(counts)
        if operator := self.takes("++", "--"):
            return self.changed(place, 1 if operator == "++" else -1, counts, False)
        return self.get(*place) if counts else 0

    def changed(
        self, place: tuple[str, Number, bool], by: int, counts: bool, gives_new: bool
    ) -> Number:
        if not counts:
            return 0
        old = self.get(*place)
        new = None if old is None else _wrapped(old + by)
        self.set(*place, new)
        return new if gives_new else old


def _applied(operator: str, left: Number, right: Number) -> Number:
    """Return the value of one operation; None where a side is not known."""
    if left is None or right is None:
        return None
    if operator in ("/", "%"):
        if not right:
            raise NoNumber("a division by zero")
        size = abs(left) // abs(right)
        quotient = size if (left < 0) == (right < 0) else -size
        return _wrapped(quotient if operator == "/" else left - quotient * right)
    if operator == "**":
        if right < 0:
            raise NoNumber("a negative exponent")
        return _wrapped(pow(left, right, 1 << 64))
    if operator in ("<<", ">>"):
        return _wrapped(left << (right & 63)) if operator == "<<" else left >> (right & 63)
    return {
        "+": lambda: _wrapped(left + right),
        "-": lambda: _wrapped(left - right),
        "*": lambda: _wrapped(left * right),
        "<": lambda: int(left < right),
        ">": lambda: int(left > right),
        "<=": lambda: int(left <= right),
        ">=": lambda: int(left >= right),
        "==": lambda: int(left == right),
        "!=": lambda: int(left != right),
        "&": lambda: left & right,
        "|": lambda: left | right,
        "^": lambda: left ^ right,
    }[operator]()
