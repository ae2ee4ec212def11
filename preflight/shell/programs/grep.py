"""What grep makes of a text, and how text tools read their options."""

from __future__ import annotations

import re
from collections.abc import Sequence

from preflight.shell.grammar.patterns import Pattern, regex
from preflight.shell.grammar.text import Steps
from preflight.shell.programs.stream_programs import Call, NotKnown, lines_of


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


def text_of_lines(lines: Sequence[str]) -> str:
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
        for line in lines_of(text):
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
        return (f"{count}\n" if "c" in flags else text_of_lines(made)), count > 0

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
