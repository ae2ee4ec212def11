"""What the usual text tools make of a text: grep, cut, awk, sed, tr, sort and their like.

Each is read in two steps: its words say which files it reads and what it does (`Call`), and the text of
those comes later. What is not understood of a program's words raises NotKnown: then nobody knows its output.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from preflight.shell.grammar.text import Steps
from preflight.shell.programs.grep import grep, options_of, text_of_lines
from preflight.shell.programs.stream_editor import sed_call
from preflight.shell.programs.stream_programs import Call, NotKnown, awk_call, lines_of


def _ranges(text: str) -> Callable[[int], bool]:
    """Return a test for the numbers that `1,3-5,7-` lists."""
    pairs = []
    for item in text.split(","):
        match = re.fullmatch(r"(\d*)(-?)(\d*)", item)
        if match is None or not item.strip("-"):
            raise NotKnown(text)
        low = int(match[1] or 1)
        high = int(match[3]) if match[3] else None if match[2] else low
        pairs.append((low, high))
    return lambda number: any(low <= number and (high is None or number <= high) for low, high in pairs)  # fmt: skip


def cut(words: list[str]) -> Call:
    found, rest = options_of(words, "dfcb", "s")
    separator = found.get("d", ["\t"])[-1]

    def fields(line: str) -> str | None:
        if separator not in line:
            return None if "s" in found else line
        kept = _ranges(found["f"][-1])
        parts = line.split(separator)
        return separator.join(part for number, part in enumerate(parts, 1) if kept(number))

    def characters(line: str) -> str:
        kept = _ranges((found.get("c") or found["b"])[-1])
        return "".join(one for number, one in enumerate(line, 1) if kept(number))

    if ("f" not in found and "c" not in found and "b" not in found) or len(separator) != 1:
        raise NotKnown("cut")
    change = fields if "f" in found else characters
    return Call(rest, lambda text, steps: (text_of_lines([made for line in lines_of(text) if (made := change(line)) is not None]), True))  # fmt: skip


def _set(text: str) -> list[str]:
    """Return the characters of a set of `tr`."""
    classes = {
        "upper": "ABCDEFGHIJKLMNOPQRSTUVWXYZ",
        "lower": "abcdefghijklmnopqrstuvwxyz",
        "digit": "0123456789",
        "space": " \t\n\r\f\v",
        "blank": " \t",
    }
    classes["alpha"] = classes["upper"] + classes["lower"]
    classes["alnum"] = classes["digit"] + classes["alpha"]
    found: list[str] = []
    for match in re.finditer(r"\[:(\w+):\]|\\(.)|(.)-(.)|(.)", text, re.DOTALL):
        if match[1]:
            if match[1] not in classes:
                raise NotKnown(text)
            found += classes[match[1]]
        elif match[2]:
            if match[2].isdigit():
                raise NotKnown(text)
            found.append({"n": "\n", "t": "\t", "r": "\r"}.get(match[2], match[2]))
        elif match[3]:
            if ord(match[4]) - ord(match[3]) > 0xFFF:
                raise NotKnown(text)
            found += map(chr, range(ord(match[3]), ord(match[4]) + 1))
        else:
            found.append(match[5])
    return found


def tr(words: list[str]) -> Call:
    found, rest = options_of(words, "", "dscC")
    sets = [_set(word) for word in rest]
    inverted = "c" in found or "C" in found
    first = set(sets[0])

    def in_first(character: str) -> bool:
        return (character in first) is not inverted

    def apply(text: str, steps: Steps) -> tuple[str, bool]:
        if "d" in found:
            return "".join(one for one in text if not in_first(one)), True
        squeezed = set(sets[-1]) if "s" in found else set()
        made: list[str] = []
        for one in text:
            new = one
            if len(sets) > 1 and in_first(one):
                place = len(sets[1]) if inverted else sets[0].index(one)
                new = sets[1][min(place, len(sets[1]) - 1)]
            is_again = bool(made) and made[-1] == new
            is_squeezed = new in squeezed if len(sets) > 1 or not inverted else in_first(new)
            if "s" in found and is_again and is_squeezed:
                continue
            made.append(new)
        return "".join(made), True

    if len(sets) > 2 or ("d" not in found and "s" not in found and len(sets) < 2):
        raise NotKnown("tr")
    return Call([], apply)


def sort(words: list[str]) -> Call:
    found, rest = options_of(words, "", "nruV")
    if "V" in found:
        raise NotKnown("sort -V")

    def number(line: str) -> float:
        match = re.match(r"\s*-?\d+(\.\d+)?", line)
        return float(match[0]) if match else 0.0

    def apply(text: str, steps: Steps) -> tuple[str, bool]:
        lines = sorted(lines_of(text))
        if "n" in found:
            lines.sort(key=number)
        if "u" in found:
            lines = list(dict.fromkeys(lines))
        return text_of_lines(lines[::-1] if "r" in found else lines), True

    return Call(rest, apply)


def uniq(words: list[str]) -> Call:
    found, rest = options_of(words, "", "cdu")

    def apply(text: str, steps: Steps) -> tuple[str, bool]:
        groups: list[tuple[str, int]] = []
        for line in lines_of(text):
            if groups and groups[-1][0] == line:
                groups[-1] = (line, groups[-1][1] + 1)
            else:
                groups.append((line, 1))
        kept = [(line, count) for line, count in groups if ("d" not in found or count > 1) and ("u" not in found or count == 1)]  # fmt: skip
        return text_of_lines(
            [f"{count:7d} {line}" if "c" in found else line for line, count in kept]
        ), True

    return Call(rest, apply)


def paste(words: list[str]) -> Call:
    found, rest = options_of(words, "d", "s")
    between = found.get("d", ["\t"])[-1]
    if "s" not in found or len(between) != 1 or len(rest) > 1:
        raise NotKnown("paste")
    return Call(rest, lambda text, steps: (between.join(lines_of(text)) + "\n", True))


def bc(words: list[str]) -> Call:
    def apply(text: str, steps: Steps) -> tuple[str, bool]:
        if not re.fullmatch(r"[\d\s+*()-]{1,200}", text) or "**" in text:
            raise NotKnown("bc")
        from preflight.shell.grammar.arithmetic import evaluate

        value = evaluate(re.sub(r"\b0+(?=\d)", "", text), lambda *_: None, lambda *_: None)
        return f"{value}\n", True

    return Call([word for word in words if not word.startswith("-")], apply)


def reversed_lines(words: list[str]) -> Call:
    return Call(words, lambda text, steps: (text_of_lines(lines_of(text)[::-1]), True))


def reversed_characters(words: list[str]) -> Call:
    return Call(
        words, lambda text, steps: (text_of_lines([line[::-1] for line in lines_of(text)]), True)
    )


FILTERS: dict[str, Callable[[list[str]], Call]] = {
    "grep": grep,
    "egrep": lambda words: grep(words, "E"),
    "fgrep": lambda words: grep(words, "F"),
    "cut": cut,
    "awk": awk_call,
    "gawk": awk_call,
    "mawk": awk_call,
    "sed": sed_call,
    "tr": tr,
    "sort": sort,
    "uniq": uniq,
    "paste": paste,
    "bc": bc,
    "tac": reversed_lines,
    "rev": reversed_characters,
}
"""Program -> what its words say."""
