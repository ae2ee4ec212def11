"""The short awk programs of job scripts: a pattern, and what of the line is printed."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from preflight.lazy_pattern import lazy_pattern
from preflight.shell.grammar.patterns import Pattern, regex
from preflight.shell.grammar.scanning import unescaped
from preflight.shell.grammar.text import Steps
from preflight.values import NamedTuple


class NotKnown(Exception):
    """A program's words say something that is not followed here."""


class Call(NamedTuple):
    """A text tool with its words read."""

    paths: Sequence[str]
    """Files that it reads; none: what comes in."""
    apply: Callable[[str, Steps], tuple[str, bool]]
    """Return what it prints for a text, and whether it succeeds."""


def lines_of(text: str) -> list[str]:
    """Return the lines of a text, without what stands behind the last line's end where that is nothing."""
    lines = text.split("\n")
    return lines[:-1] if lines[-1] == "" else lines


class _Line(NamedTuple):
    text: str
    fields: list[str]
    number: int
    variables: dict[str, str]


Value = Callable[[_Line], str]
Test = Callable[[_Line, Steps], bool]
_RULE = lazy_pattern(r"\s*(?P<test>[^{};\"]*?|[^{}]*?\"[^\"]*\"\s*)\s*(?:\{(?P<body>(?:\"(?:\\.|[^\"])*\"|/(?:\\.|[^/\n])*/|[^{}\"/])*)\}|$)", re.DOTALL)  # fmt: skip
_ATOM = lazy_pattern(
    r'\s*(?:"((?:\\.|[^"\\])*)"|\$(NF|\d+)|\$\((NF)-(\d+)\)|(NR|NF)\b|(-?\d+)|([A-Za-z_]\w*)|(,))'
)
_CONDITION = lazy_pattern(r"(NR|NF|\$NF|\$\d+|[A-Za-z_]\w*)\s*(==|!=|<=|>=|<|>|%|~|!~)\s*(.+)", re.DOTALL)  # fmt: skip


def awk_call(words: list[str]) -> Call:
    """Read `awk -F: -v x=1 'PROGRAM' FILE`."""
    left, separator, variables, program = list(words), "", {}, None
    while left and left[0].startswith("-") and len(left[0]) > 1:
        word = left.pop(0)
        if word.startswith("-F"):
            separator = word[2:] or left.pop(0)
        elif word.startswith("-v"):
            name, _, value = (word[2:] or left.pop(0)).partition("=")
            variables[name] = unescaped(value)
        else:
            raise NotKnown(word)
    program = left.pop(0)
    rules, at = [], 0
    program = program.strip()
    while at < len(program):
        match = _RULE.match(program, at)
        if match is None or match.end() == at:
            raise NotKnown(program)
        rules.append((match["test"].strip(), "print" if match["body"] is None else match["body"]))
        at = match.end()
    steps_of = [(_test(test), _statements(body)) for test, body in rules if test not in ("END", "BEGIN")]  # fmt: skip
    ends = [_statements(body) for test, body in rules if test == "END"]
    if any(test == "BEGIN" for test, _ in rules):
        raise NotKnown(program)
    pattern = _separator(separator)

    def apply(text: str, steps: Steps) -> tuple[str, bool]:
        made: list[str] = []
        line = _Line("", [], 0, variables)
        for number, whole in enumerate(lines_of(text), 1):
            steps.spend(1 + len(whole) // 8)
            line = _Line(whole, _cut(whole, pattern, steps), number, variables)
            for test, statements in steps_of:
                if test(line, steps):
                    line, goes_on = _done(line, statements, made, pattern, steps)
                    if goes_on is None:
                        return "".join(made), True
                    if not goes_on:
                        break
        for statements in ends:
            _done(line, statements, made, pattern, steps)
        return "".join(made), True

    return Call([word for word in left if "=" not in word], apply)


def _separator(text: str) -> Pattern | str | None:
    """Return what fields are cut at; None: blanks."""
    if text in ("", " "):
        return None
    text = unescaped(text)
    return text if (len(text) == 1 and text not in "|\\") or text == "|" else regex(text)


def _cut(text: str, separator: Pattern | str | None, steps: Steps) -> list[str]:
    if separator is None:
        return text.split()
    if not text:
        return []
    if isinstance(separator, str):
        return text.split(separator)
    found, at, start = [], 0, 0
    while at <= len(text):
        match = separator.search(text, steps, at)
        if match is None or match.end == match.start:
            break
        found.append(text[start : match.start])
        at = start = match.end
    return [*found, text[start:]]


def _field(line: _Line, number: int) -> str:
    if number == 0:
        return line.text
    return line.fields[number - 1] if 0 < number <= len(line.fields) else ""


def _constant(text: str) -> Value:
    return lambda line: text


def _value(text: str) -> Value:
    """Return an expression of strings, fields and counts, side by side or with commas."""
    atoms: list[Value] = []
    at = 0
    while at < len(text.rstrip()):
        match = _ATOM.match(text, at)
        if match is None:
            raise NotKnown(text)
        at = match.end()
        string, field, _, minus, count, number, name, _comma = match.groups()
        if string is not None:
            atoms.append(_constant(unescaped(string)))
        elif field == "NF":
            atoms.append(lambda line: _field(line, len(line.fields)))
        elif field is not None:
            atoms.append(lambda line, place=int(field): _field(line, place))  # type: ignore[misc]
        elif minus is not None:
            atoms.append(lambda line, less=int(minus): _field(line, len(line.fields) - less))  # type: ignore[misc]
        elif count is not None:
            atoms.append(lambda line, kind=count: str(line.number if kind == "NR" else len(line.fields)))  # type: ignore[misc]  # fmt: skip
        elif number is not None:
            atoms.append(_constant(number))
        elif name is not None:
            if text[at : at + 1] == "(" or re.match(r"\s*(=|\+\+|\+=|-=|\[)", text[at:]):
                raise NotKnown(text)
            atoms.append(lambda line, key=name: line.variables.get(key, ""))  # type: ignore[misc]
        else:
            atoms.append(lambda line: " ")
    return lambda line: "".join(atom(line) for atom in atoms)


def _test(text: str) -> Test:
    """Return the condition in front of `{`."""
    if not text:
        return lambda line, steps: True
    for mark, joins in (("||", any), ("&&", all)):
        if mark in text and not re.search(r"/[^/]*" + re.escape(mark), text):
            parts = [_test(part.strip()) for part in text.split(mark)]
            return lambda line, steps: joins(part(line, steps) for part in parts)
    if text.startswith("!"):
        inner = _test(text[1:].strip())
        return lambda line, steps: not inner(line, steps)
    if match := re.fullmatch(r"/((?:\\.|[^/\\])*)/", text):
        pattern = regex(match[1].replace(r"\/", "/"))
        return lambda line, steps: pattern.search(line.text, steps) is not None
    if match := _CONDITION.fullmatch(text):
        left, operator, right = match.groups()
        value = _value(left)
        if operator in ("~", "!~"):
            pattern = regex(right.strip().strip('/"').replace(r"\/", "/"))
            return lambda line, steps: (pattern.search(value(line), steps) is not None) is (operator == "~")  # fmt: skip
        return _comparison(value, operator, _value(right))
    if re.fullmatch(r"NF|\d+|\$\d+", text):
        value = _value(text)
        return lambda line, steps: value(line) not in ("", "0")
    raise NotKnown(text)


def _comparison(left: Value, operator: str, right: Value) -> Test:
    if operator == "%":
        raise NotKnown("%")

    def compare(line: _Line, steps: Steps) -> bool:
        one: float | str = left(line)
        two: float | str = right(line)
        try:
            one, two = float(one), float(two)
        except ValueError:
            one, two = str(one), str(two)
        less, same = one < two, one == two  # type: ignore[operator]
        return {"==": same, "!=": not same, "<": less, ">": not less and not same, "<=": less or same, ">=": not less}[operator]  # fmt: skip

    return compare


Statement = tuple[str, "Value | None", "tuple[Pattern, str, bool, int] | None"]


def _statements(body: str) -> list[Statement]:
    """Return the statements of an action."""
    found: list[Statement] = []
    for text in re.split(r"[;\n](?=(?:[^\"]*\"[^\"]*\")*[^\"]*$)", body):
        text = text.strip()
        if not text:
            continue
        if match := re.fullmatch(r"print\b\s*(?:\((.*)\)|(.*))", text, re.DOTALL):
            inside = (match[1] if match[1] is not None else match[2]).strip()
            if re.search(r'(^|[^"])[>|]', re.sub(r'"(?:\\.|[^"])*"', '""', inside)):
                raise NotKnown(text)
            found.append(("print", _value(inside) if inside else lambda line: line.text, None))
        elif text in ("exit", "next"):
            found.append((text, None, None))
        elif match := re.fullmatch(r'(g?sub)\(\s*(?:/((?:\\.|[^/])*)/|"((?:\\.|[^"])*)")\s*,\s*"((?:\\.|[^"])*)"\s*(?:,\s*\$(\d+)\s*)?\)', text):  # fmt: skip
            pattern = regex((match[2] if match[2] is not None else match[3]).replace(r"\/", "/"))
            new, place = unescaped(match[4]), int(match[5] or 0)
            if "&" in new:
                raise NotKnown(text)
            found.append(("sub", None, (pattern, new, match[1] == "gsub", place)))
        else:
            raise NotKnown(text)
    return found


def _done(
    line: _Line,
    statements: Sequence[Statement],
    made: list[str],
    separator: Pattern | str | None,
    steps: Steps,
) -> tuple[_Line, bool | None]:
    """Do an action; return the line that it leaves and whether later rules see it (None: nothing more is read)."""
    for kind, value, change in statements:
        if kind == "exit":
            return line, None
        if kind == "next":
            return line, False
        if value is not None:
            made.append(value(line) + "\n")
        elif change is not None:
            pattern, new, is_all, place = change
            text = replaced(_field(line, place), pattern, new, is_all, steps)
            if place == 0:
                line = _Line(text, _cut(text, separator, steps), line.number, line.variables)
            else:
                fields = [*line.fields, *[""] * (place - len(line.fields))]
                fields[place - 1] = text
                line = _Line(" ".join(fields), fields, line.number, line.variables)
    return line, True


def replaced(text: str, pattern: Pattern, new: str, is_all: bool, steps: Steps) -> str:
    """Return a text with the first match, or all, replaced."""
    made, at = [], 0
    while at <= len(text):
        match = pattern.search(text, steps, at)
        if match is None:
            break
        made += [text[at : match.start], new]
        if match.end == match.start:
            made.append(text[match.end : match.end + 1])
        at = match.end + (match.end == match.start)
        if not is_all:
            break
    return "".join(made) + text[at:]
