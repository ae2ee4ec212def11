"""What the words of a script stand for, as far as its text alone tells: variables, arrays, arithmetic, simple commands.

What only the running job can tell is left as it is written, and named.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Sequence
from dataclasses import field

from preflight.values import dataclass

Value = str | list[str] | None
"""Of a variable: text, an array, or None where it is set to what is not known."""
LONGEST = 1 << 20
_BEGIN, _END, _BLANK, _LINE = "\ue000", "\ue001", "\ue002", "\ue003"
"""Around what is not known, as written, inside a text that is known otherwise; it is one word whatever it holds."""
_MARKED = re.compile(f"{_BEGIN}([^{_END}]*){_END}")


def marked(raw: str) -> str:
    """Return what is not known, as a part of a text."""
    plain = _MARKED.sub(lambda match: match[1], raw)
    return f"{_BEGIN}{plain.replace(' ', _BLANK).replace(chr(10), _LINE)}{_END}"


def unmarked(text: str) -> tuple[str, tuple[str, ...]]:
    """Return a text as written, and what in it is not known."""

    def plain(part: str) -> str:
        return part.replace(_BLANK, " ").replace(_LINE, "\n")

    unknown = tuple(plain(part) for part in _MARKED.findall(text))
    return _MARKED.sub(lambda match: plain(match[1]), text), unknown


_PARAMETER = re.compile(r"[A-Za-z_]\w*|[@*#?$!\d-]")
_NUMBERS = re.compile(
    r"\s*(?:(\d+)|([A-Za-z_]\w*)|(\*\*|<<|>>|<=|>=|==|!=|&&|\|\||[-+*/%<>()?:!&|^~]))"
)


class Unknown(Exception):
    """A value that the text does not tell."""


@dataclass
class Variables:
    """What the shell has set, and what only a job knows."""

    values: dict[str, Value] = field(default_factory=dict)
    exported: set[str] = field(default_factory=set)
    arguments: list[str] = field(default_factory=list)
    substitute: Callable[[str], str | None] = lambda text: None
    """Runs the text of `$(...)` where it is simple; None where it is not."""

    def text(self, name: str) -> str | None:
        """Return a variable's text, empty where it is not set; None where it is not known."""
        if name.isdecimal():
            index = int(name)
            return self.arguments[index - 1] if 0 < index <= len(self.arguments) else ""
        if name == "#":
            return str(len(self.arguments))
        if name in "@*":
            return " ".join(self.arguments)
        if name in "?":
            return "0"
        if name in "$!-":
            return None
        value = self.values.get(name, "")
        if isinstance(value, list):
            return value[0] if value else ""
        return value


class _Expansion:
    """One word being filled in."""

    def __init__(self, variables: Variables, splits: bool) -> None:
        self.variables = variables
        self.splits = splits
        self.parts = [""]
        self.is_quoted = False

    def add(self, text: str, is_split: bool) -> None:
        if not is_split:
            self.parts[-1] += text
            return
        pieces = text.split()
        if not pieces:
            return
        if text[:1].isspace() and self.parts[-1]:
            self.parts.append("")
        self.parts[-1] += pieces[0]
        self.parts += pieces[1:]
        if text[-1:].isspace():
            self.parts.append("")

    def walk(self, text: str) -> None:
        at = 0
        while at < len(text):
            character = text[at]
            if character == "\\":
                if not text.startswith("\\\n", at):
                    self.parts[-1] += text[at + 1 : at + 2]
                at += 2
            elif character == "'":
                end = _closing_quote(text, at + 1)
                self.parts[-1] += text[at + 1 : end]
                self.is_quoted, at = True, end + 1
            elif text.startswith("$'", at):
                end = _closing_quote(text, at + 2, escapes=True)
                raw = text[at + 2 : end].encode("latin-1", "backslashreplace")
                self.parts[-1] += raw.decode("unicode_escape", "replace")
                self.is_quoted, at = True, end + 1
            elif character == '"':
                at = self.double_quoted(text, at + 1)
                self.is_quoted = True
            elif character in "$`":
                at = self.dollar(text, at, self.splits, is_quoted=False)
            elif character == "~" and at == 0 and text[1:2] in ("", "/"):
                self.parts[-1] += self.variables.text("HOME") or "~"
                at += 1
            else:
                self.parts[-1] += character
                at += 1
            if sum(map(len, self.parts)) > LONGEST:
                raise Unknown("a word that is too long")

    def double_quoted(self, text: str, at: int) -> int:
        while at < len(text) and text[at] != '"':
            if text[at] == "\\":
                escaped = text[at + 1 : at + 2]
                if escaped != "\n":
                    self.parts[-1] += escaped if escaped in '$`"\\' else "\\" + escaped
                at += 2
            elif text[at] in "$`":
                at = self.dollar(text, at, False, is_quoted=True)
            else:
                self.parts[-1] += text[at]
                at += 1
        return at + 1

    def dollar(self, text: str, at: int, splits: bool, is_quoted: bool) -> int:
        """Fill in what begins with `$` or a backquote; return the position behind it."""
        end = end_of_expansion(text, at)
        raw = text[at:end]
        try:
            words = array_words(raw, self.variables)
        except Unknown:
            return self.not_known(raw, end)
        if words is not None:
            if is_quoted and "*" not in raw:
                if words:
                    self.parts[-1] += words[0]
                    self.parts += words[1:]
                elif self.parts == [""]:
                    self.parts = []
                    self.parts.append("")
                    self.is_empty_array = True
                return end
            self.add(" ".join(words), splits)
            return end
        try:
            value = expansion(raw, self.variables)
        except Unknown:
            return self.not_known(raw, end)
        self.add(value, splits)
        return end

    is_empty_array = False

    def not_known(self, raw: str, end: int) -> int:
        self.parts[-1] += marked(raw)
        return end


def expand(word: str, variables: Variables, splits: bool = True) -> tuple[str, ...]:
    """Return what a word stands for: several words where an unquoted variable holds blanks.

    What is not known stands in them marked.
    """
    expansion = _Expansion(variables, splits)
    expansion.walk(word)
    whole = expansion.is_quoted and len(expansion.parts) == 1 and not expansion.is_empty_array
    words = tuple(part for part in expansion.parts if part or whole)
    if splits and len(words) == 1 and not expansion.is_quoted:
        words = tuple(braces(words[0]))
    return words


def _closing_quote(text: str, at: int, escapes: bool = False) -> int:
    """Return where a quote ends; the end of the text where it is never closed."""
    while at < len(text) and text[at] != "'":
        at += 2 if escapes and text[at] == "\\" else 1
    return min(at, len(text))


def text_of(word: str, variables: Variables) -> str:
    """Return what a word stands for as one text; raise Unknown where a part is not known."""
    text = " ".join(expand(word, variables, splits=False))
    if _BEGIN in text:
        raise Unknown(text)
    return text


def braces(word: str) -> list[str]:
    """Return the words of `{a,b}`."""
    match = re.search(r"(?<!\$)\{([^{}\s]*,[^{}\s]*)\}", word)
    if match is None:
        return [word]
    return [
        whole
        for item in match[1].split(",")
        for whole in braces(word[: match.start()] + item + word[match.end() :])
    ]


def end_of_expansion(text: str, at: int) -> int:
    """Return the position behind `$name`, `${...}`, `$(...)`, `$((...))` or a backquoted command."""
    if text[at] == "`":
        end = text.find("`", at + 1)
        return len(text) if end < 0 else end + 1
    following = text[at + 1 : at + 2]
    if following in ("(", "{"):
        closing, depth, quote = {"(": ")", "{": "}"}[following], 0, ""
        for index in range(at + 1, len(text)):
            character = text[index]
            if quote:
                quote = "" if character == quote else quote
            elif character in "'\"":
                quote = character
            elif character == following:
                depth += 1
            elif character == closing:
                depth -= 1
                if depth == 0:
                    return index + 1
        return len(text)
    match = _PARAMETER.match(text, at + 1)
    return match.end() if match else at + 1


_ARRAY = re.compile(r"\$\{(?:([A-Za-z_]\w*)\[[@*]\]|([@*]))(?::([^:}]+)(?::([^:}]+))?)?\}")


def array_words(raw: str, variables: Variables) -> list[str] | None:
    """Return the words of `$@`, `${name[@]}` or `${name[@]:1:2}`; None for anything else."""
    match = _ARRAY.fullmatch(raw)
    if raw in ("$@", "$*"):
        return list(variables.arguments)
    if match is None:
        return None
    name, _, first, count = match.groups()
    value = variables.arguments if name is None else variables.values.get(name, [])
    if value is None:
        raise Unknown(raw)
    words = [value] if isinstance(value, str) else list(value)
    if first is None:
        return words
    start = arithmetic(first, variables) - (1 if name is None else 0)
    return words[start : None if count is None else start + arithmetic(count, variables)]


def expansion(raw: str, variables: Variables) -> str:
    """Return the text of one `$...`; raise Unknown where it is not known."""
    if raw == "$":
        return raw
    if raw.startswith("$((") and raw.endswith("))"):
        return str(arithmetic(raw[3:-2], variables))
    if raw[0] == "`" or raw.startswith("$("):
        value = variables.substitute(raw[1:-1] if raw[0] == "`" else raw[2:-1])
        if value is None:
            raise Unknown(raw)
        return value.rstrip("\n")
    inner = raw[2:-1] if raw.startswith("${") else raw[1:]
    return _parameter(inner, raw, variables)


def _parameter(inner: str, raw: str, variables: Variables) -> str:
    if match := re.fullmatch(r"#([A-Za-z_]\w*)(\[[@*]\])?", inner):
        value = variables.values.get(match[1], "")
        if value is None:
            raise Unknown(raw)
        return str(len(value) if not isinstance(value, str) or not match[2] else 1)
    indirect = re.fullmatch(r"!([A-Za-z_]\w*)", inner)
    if indirect:
        name = variables.text(indirect[1])
        inner = name or ""
    match = re.match(r"([A-Za-z_]\w*|[@*#?$!\d-])(?:\[([^\]]*)\])?", inner)
    if match is None:
        raise Unknown(raw)
    name, rest = match[1], inner[match.end() :]
    value = _indexed(name, match[2], variables) if match[2] is not None else variables.text(name)
    is_set = name in variables.values or name.isdecimal() or name in "@*#?"
    if rest[:1] == ":" and rest[1:2] in ("-", "=", "+", "?"):
        is_set, rest = is_set and value != "", rest[1:]
    elif not rest or rest[0] not in "-=+?":
        if value is None:
            raise Unknown(raw)
        return _changed(value, rest, raw, variables)
    if rest[0] == "+":
        return _filled(rest[1:], variables) if is_set else ""
    if is_set:
        if value is None:
            raise Unknown(raw)
        return value
    filled = _filled(rest[1:], variables)
    if rest[0] == "=":
        variables.values[name] = filled
    return filled


def _filled(text: str, variables: Variables) -> str:
    return text_of(text, variables)


def _indexed(name: str, index: str, variables: Variables) -> str | None:
    value = variables.values.get(name, "")
    if not isinstance(value, list):
        return value if index == "0" else None if value is None else ""
    number = arithmetic(index, variables)
    return value[number] if -len(value) <= number < len(value) else ""


def _changed(value: str, rest: str, raw: str, variables: Variables) -> str:
    """Return a value with `#pattern`, `%pattern`, `/from/to`, `:offset:length`, `^` or `,` applied."""
    if not rest:
        return value
    if _BEGIN in value:
        raise Unknown(raw)
    if rest[0] in "#%":
        is_longest = rest[:2] in ("##", "%%")
        pattern = _filled(rest[2 if is_longest else 1 :], variables)
        lengths = range(len(value) + 1)
        ends = rest[0] == "%"
        for size in reversed(lengths) if is_longest else lengths:
            part = value[len(value) - size :] if ends else value[:size]
            if fnmatch.fnmatchcase(part, pattern):
                return value[: len(value) - size] if ends else value[size:]
        return value
    if rest[0] == "/":
        is_all = rest.startswith("//")
        old, new = _parts_of_replacement(rest[2 if is_all else 1 :])
        old, new = _filled(old, variables), _filled(new, variables)
        if not old or set(old) & set("*?["):
            raise Unknown(raw)
        return value.replace(old, new) if is_all else value.replace(old, new, 1)
    if rest[0] in "^,":
        change = str.upper if rest[0] == "^" else str.lower
        return change(value) if len(rest) > 1 else change(value[:1]) + value[1:]
    if rest[0] == ":":
        numbers = [arithmetic(part, variables) for part in rest[1:].split(":")]
        end = numbers[0] + numbers[1] if len(numbers) > 1 else None
        return value[numbers[0] : end]
    raise Unknown(raw)


def _parts_of_replacement(text: str) -> tuple[str, str]:
    """Return `from` and `to` of `from/to`; a slash may stand in the first behind a backslash."""
    match = re.match(r"((?:\\.|[^/\\])*)(?:/(.*))?$", text, re.DOTALL)
    return (match[1], match[2] or "") if match else (text, "")


_ALLOWED = {"&&": " and ", "||": " or ", "/": "//", "!": " not "}


def arithmetic(text: str, variables: Variables) -> int:
    """Return the value of a shell's arithmetic; raise Unknown where it is not known."""
    filled = text
    if "$" in text or "`" in text:
        filled = text_of('"' + text.replace('"', "") + '"', variables)
    made: list[str] = []
    at = 0
    filled = filled.strip()
    while at < len(filled):
        match = _NUMBERS.match(filled, at)
        if match is None or len(made) > 400:
            raise Unknown(text)
        number, name, operator = match.groups()
        if number:
            made.append(str(int(number, 8 if number.startswith("0") and number != "0" and set(number) <= set("01234567") else 10)))  # fmt: skip
        elif name:
            value = variables.text(name)
            if value is None:
                raise Unknown(name)
            made.append(str(int(value)) if re.fullmatch(r"\s*-?\d+\s*", value) else "0")
        elif operator in ("?", ":", "**", "<<", ">>"):
            raise Unknown(text)
        else:
            made.append(_ALLOWED.get(operator, operator))
        at = match.end()
    try:
        # Digits and operators only: every token was matched above.
        return int(eval("".join(made) or "0", {"__builtins__": {}}))
    except (SyntaxError, ZeroDivisionError, ValueError, TypeError, MemoryError, RecursionError):
        raise Unknown(text) from None


def matches(text: str, patterns: Sequence[str], variables: Variables) -> bool:
    """Tell whether one of a case's patterns fits a text; raise Unknown where one is not known."""
    return any(fnmatch.fnmatchcase(text, text_of(pattern, variables)) for pattern in patterns)
