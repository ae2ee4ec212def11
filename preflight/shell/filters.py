"""What the usual text tools make of a text: grep, cut, awk, sed, tr, sort and their like.

Each is read in two steps: its words say which files it reads and what it does (`Call`), and the text of
those comes later. What is not understood of a program's words raises NotKnown: then nobody knows its output.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from preflight.shell.patterns import Pattern, regex
from preflight.shell.stream_editor import sed_call
from preflight.shell.stream_programs import Call, NotKnown, awk_call
from preflight.shell.text import Steps


def options_of(words: Sequence[str], with_value: str, flags: str) -> tuple[dict[str, list[str]], list[str]]:  # fmt: skip
    """Return one-letter options with their values, and the other words."""
    found: dict[str, list[str]] = {}
    rest: list[str] = []
    left = list(words)
    while left:
        word = left.pop(0)
        if word == "--":
            rest += left
            break
        if word == "-" or not word.startswith("-"):
            rest.append(word)
            continue
        if word.startswith("--"):
            raise NotKnown(word)
        for place, letter in enumerate(word[1:], 1):
            if letter in with_value:
                value = word[place + 1 :]
                found.setdefault(letter, []).append(value if value else left.pop(0))
                break
            if letter not in flags:
                raise NotKnown(word)
            found.setdefault(letter, []).append("")
    return found, rest


def _lines(text: str) -> list[str]:
    lines = text.split("\n")
    return lines[:-1] if lines[-1] == "" else lines


def _text(lines: Sequence[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


_LONG = {"--only-matching": "-o", "--count": "-c", "--quiet": "-q", "--silent": "-q", "--ignore-case": "-i", "--invert-match": "-v", "--extended-regexp": "-E", "--fixed-strings": "-F", "--perl-regexp": "-P", "--word-regexp": "-w", "--no-messages": "-s"}  # fmt: skip


def grep(words: list[str], mode: str = "") -> Call:
    found, rest = options_of([_LONG.get(word, word) for word in words], "em", "oEFPGivwxcqshHnaI")
    if "n" in found or "H" in found:
        raise NotKnown("grep -n")
    patterns = found.get("e") or [rest.pop(0)]
    flags = mode + "".join(found)
    keeps_from = ""
    compiled: list[Pattern] = []
    for pattern in patterns:
        if "F" in flags:
            pattern = re.sub(r"(\W)", r"\\\1", pattern)
            compiled.append(regex(pattern, True, "i" in flags))
            continue
        if "P" in flags:
            pattern, keeps_from = _without_looking(pattern)
        compiled.append(regex(pattern, "E" in flags or "P" in flags, "i" in flags))
    most = int(found["m"][0]) if "m" in found else None

    def apply(text: str, steps: Steps) -> tuple[str, bool]:
        made, count = [], 0
        for line in _lines(text):
            matches = _matches(compiled, line, steps, flags)
            if bool(matches) is ("v" in flags):
                continue
            count += 1
            if "o" in flags:
                made += [line[keeps(match) : end] for match, end in matches if end > match[0]]
            else:
                made.append(line)
            if most is not None and count >= most:
                break
        if "q" in flags:
            return "", count > 0
        return (f"{count}\n" if "c" in flags else _text(made)), count > 0

    def keeps(match: tuple[int, int]) -> int:
        return match[1] if keeps_from else match[0]

    return Call(rest, apply)


def _without_looking(pattern: str) -> tuple[str, str]:
    r"""Return a Perl pattern with `\K` or a `(?<=...)` in front as a group whose end is where the match begins."""
    if match := re.match(r"\(\?<=([^()]*)\)", pattern):
        pattern = match[1] + r"\K" + pattern[match.end() :]
    if re.search(r"\(\?|[*+?}][?+]", pattern):
        raise NotKnown(pattern)
    before, mark, behind = pattern.partition(r"\K")
    return (f"({before}){behind}", "K") if mark else (pattern, "")


def _matches(
    patterns: Sequence[Pattern], line: str, steps: Steps, flags: str
) -> list[tuple[tuple[int, int], int]]:
    """Return where matches begin, the end of their first group, and where they end."""
    found: list[tuple[tuple[int, int], int]] = []
    for pattern in patterns:
        at = 0
        while at <= len(line):
            match = pattern.search(line, steps, at)
            if match is None:
                break
            edges = line[match.start - 1 : match.start] if match.start else "", line[match.end : match.end + 1]  # fmt: skip
            is_whole = "x" not in flags or (match.start == 0 and match.end == len(line))
            is_word = "w" not in flags or not any(re.match(r"\w", edge) for edge in edges if edge)
            if is_whole and is_word:
                first = match.groups[0][1] if match.groups and match.groups[0] else match.start
                found.append(((match.start, first), match.end))
                if "o" not in flags:
                    return found
            at = match.end + (match.end == match.start)
    return found


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
    return Call(rest, lambda text, steps: (_text([made for line in _lines(text) if (made := change(line)) is not None]), True))  # fmt: skip


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
        lines = sorted(_lines(text))
        if "n" in found:
            lines.sort(key=number)
        if "u" in found:
            lines = list(dict.fromkeys(lines))
        return _text(lines[::-1] if "r" in found else lines), True

    return Call(rest, apply)


def uniq(words: list[str]) -> Call:
    found, rest = options_of(words, "", "cdu")

    def apply(text: str, steps: Steps) -> tuple[str, bool]:
        groups: list[tuple[str, int]] = []
        for line in _lines(text):
            if groups and groups[-1][0] == line:
                groups[-1] = (line, groups[-1][1] + 1)
            else:
                groups.append((line, 1))
        kept = [(line, count) for line, count in groups if ("d" not in found or count > 1) and ("u" not in found or count == 1)]  # fmt: skip
        return _text([f"{count:7d} {line}" if "c" in found else line for line, count in kept]), True

    return Call(rest, apply)


def paste(words: list[str]) -> Call:
    found, rest = options_of(words, "d", "s")
    between = found.get("d", ["\t"])[-1]
    if "s" not in found or len(between) != 1 or len(rest) > 1:
        raise NotKnown("paste")
    return Call(rest, lambda text, steps: (between.join(_lines(text)) + "\n", True))


def bc(words: list[str]) -> Call:
    def apply(text: str, steps: Steps) -> tuple[str, bool]:
        if not re.fullmatch(r"[\d\s+*()-]{1,200}", text) or "**" in text:
            raise NotKnown("bc")
        from preflight.shell.arithmetic import evaluate

        value = evaluate(re.sub(r"\b0+(?=\d)", "", text), lambda *_: None, lambda *_: None)
        return f"{value}\n", True

    return Call([word for word in words if not word.startswith("-")], apply)


def reversed_lines(words: list[str]) -> Call:
    return Call(words, lambda text, steps: (_text(_lines(text)[::-1]), True))


def reversed_characters(words: list[str]) -> Call:
    return Call(words, lambda text, steps: (_text([line[::-1] for line in _lines(text)]), True))


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
