"""The sed commands of job scripts: `s`, `p`, `d` and `q`, with addresses."""

from __future__ import annotations

import re
from collections.abc import Sequence

from preflight.lazy_pattern import lazy_pattern
from preflight.shell.grammar.patterns import Match, Pattern, regex
from preflight.shell.grammar.text import Steps
from preflight.shell.programs.stream_programs import Call, NotKnown, lines_of
from preflight.values import NamedTuple


class _Command(NamedTuple):
    first: str | Pattern
    """A line's number, `$`, a pattern, or nothing for all lines."""
    last: str | Pattern
    is_inverted: bool
    kind: str
    pattern: Pattern | None
    new: str
    flags: str


_ADDRESS = lazy_pattern(r"\s*(\d+|\$|/(?:\\.|[^/\\\n])*/)?(?:\s*,\s*(\d+|\$|/(?:\\.|[^/\\\n])*/))?\s*(!?)\s*")  # fmt: skip


def sed_call(words: list[str]) -> Call:
    """Read `sed -n -E -e SCRIPT FILE`."""
    scripts: list[str] = []
    paths: list[str] = []
    is_silent = is_extended = False
    left = list(words)
    while left:
        word = left.pop(0)
        if word in ("-e", "--expression"):
            scripts.append(left.pop(0))
        elif word.startswith("--expression="):
            scripts.append(word.partition("=")[2])
        elif re.fullmatch(r"-[nErsu]*e?", word) and len(word) > 1:
            is_silent = is_silent or "n" in word
            is_extended = is_extended or "E" in word or "r" in word
            if word.endswith("e"):
                scripts.append(left.pop(0))
        elif word in ("--quiet", "--silent"):
            is_silent = True
        elif word == "--regexp-extended":
            is_extended = True
        elif word.startswith("-") and len(word) > 1:
            raise NotKnown(word)
        else:
            paths.append(word)
    if not scripts:
        scripts.append(paths.pop(0))
    commands = [one for script in scripts for one in _commands(script, is_extended)]

    def apply(text: str, steps: Steps) -> tuple[str, bool]:
        return _edited(text, commands, is_silent, steps), True

    return Call(paths, apply)


def _commands(script: str, is_extended: bool) -> list[_Command]:
    found: list[_Command] = []
    at = 0
    while at < len(script):
        if script[at] in "; \t\n":
            at += 1
            continue
        match = _ADDRESS.match(script, at)
        assert match is not None
        at = match.end()
        first, last = (_address(text, is_extended) for text in match.group(1, 2))
        kind = script[at : at + 1]
        at += 1
        if kind == "s":
            command, at = _substitution(script, at, is_extended)
            found.append(command._replace(first=first, last=last, is_inverted=bool(match[3])))
        elif kind in ("p", "d", "q") and script[at : at + 1] in ("", ";", "\n", " "):
            found.append(_Command(first, last, bool(match[3]), kind, None, "", ""))
        else:
            raise NotKnown(script)
    return found


def _address(text: str | None, is_extended: bool) -> str | Pattern:
    if text is None or not text.startswith("/"):
        return text or ""
    return regex(text[1:-1].replace(r"\/", "/"), is_extended)


def _substitution(script: str, at: int, is_extended: bool) -> tuple[_Command, int]:
    """Read `s/old/new/flags` with any divider."""
    divider = script[at : at + 1]
    parts, at = [], at + 1
    for _ in range(2):
        start = at
        while at < len(script) and script[at] != divider:
            at += 2 if script[at] == "\\" else 1
        if at >= len(script):
            raise NotKnown(script)
        part = script[start:at]
        parts.append(part.replace("\\" + divider, divider) if divider not in "|(){}+?.*[]^$" else part)  # fmt: skip
        at += 1
    flags = re.compile(r"[gpIi\d]*").match(script, at)
    assert flags is not None
    if script[flags.end() : flags.end() + 1] not in ("", ";", "\n", " ", "}"):
        raise NotKnown(script)
    pattern = regex(parts[0], is_extended, "i" in flags[0].lower())
    if re.search(r"\d", flags[0]) or re.search(r"\\[^\\&\d/nt.\"'|()-]", parts[1]):
        raise NotKnown(script)
    return _Command("", "", False, "s", pattern, parts[1], flags[0]), flags.end()


def _edited(text: str, commands: Sequence[_Command], is_silent: bool, steps: Steps) -> str:
    lines = lines_of(text)
    made: list[str] = []
    active: dict[int, bool] = {}
    for number, line in enumerate(lines, 1):
        steps.spend(1)
        is_last, is_deleted, quits = number == len(lines), False, False
        for index, one in enumerate(commands):
            hit = _hits(one, index, line, number, is_last, active, steps)
            if hit is one.is_inverted:
                continue
            if one.kind == "s":
                assert one.pattern is not None
                changed = _replaced(line, one, steps)
                if changed is not None:
                    line = changed
                    if "p" in one.flags:
                        made.append(line)
            elif one.kind == "p":
                made.append(line)
            else:
                is_deleted, quits = one.kind == "d", one.kind == "q"
                break
        if not is_silent and not is_deleted:
            made.append(line)
        if quits:
            break
    return "".join(f"{line}\n" for line in made)


def _hits(
    one: _Command,
    index: int,
    line: str,
    number: int,
    is_last: bool,
    active: dict[int, bool],
    steps: Steps,
) -> bool:
    """Tell whether a command's address names a line; a range stays open from its first line to its last."""

    def at(address: str | Pattern) -> bool:
        if isinstance(address, Pattern):
            return address.search(line, steps) is not None
        return is_last if address == "$" else address == str(number)

    if one.first == "":
        return True
    if one.last == "":
        return at(one.first)
    if active.get(index):
        is_number = isinstance(one.last, str) and one.last.isdecimal()
        ends = number >= int(str(one.last)) if is_number else at(one.last)
        active[index] = not ends
        return True
    if at(one.first):
        is_number = isinstance(one.last, str) and one.last.isdecimal()
        active[index] = not (is_number and number >= int(str(one.last)))
        return True
    return False


def _replaced(line: str, one: _Command, steps: Steps) -> str | None:
    """Return a line with the first match, or all, replaced; None where there is none."""
    assert one.pattern is not None
    made, at, has_match = "", 0, False
    while at <= len(line):
        match = one.pattern.search(line, steps, at)
        if match is None:
            break
        has_match = True
        made += line[at : match.start] + _filled(one.new, line, match)
        at = match.end
        if match.end == match.start:
            made += line[at : at + 1]
            at += 1
        if "g" not in one.flags:
            break
    return made + line[at:] if has_match else None


def _filled(new: str, line: str, match: Match) -> str:
    """Return what stands in for a match: `&`, `\\1` and escapes filled in."""

    def part(found: re.Match[str]) -> str:
        text = found[0]
        if text == "&":
            return line[match.start : match.end]
        if text[1].isdigit():
            number = int(text[1])
            group = (match.start, match.end) if not number else match.groups[number - 1]
            return line[group[0] : group[1]] if group else ""
        return {"n": "\n", "t": "\t"}.get(text[1], text[1])

    return re.sub(r"\\.|&", part, new, flags=re.DOTALL)
