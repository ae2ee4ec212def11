"""`echo` and `printf`, which print words that may not be known in parts."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from preflight.lazy_pattern import lazy_pattern
from preflight.shell.grammar.arithmetic import NoNumber
from preflight.shell.grammar.scanning import unescaped
from preflight.shell.grammar.text import Text, joined, known, not_known, text_of_parts
from preflight.shell.meaning.running import Running, Status
from preflight.shell.meaning.state import State

_FIELD = lazy_pattern(r"%(?:%|([-+ #0]*)(\*|\d+)?(?:\.(\*|\d+))?([a-zA-Z]))")
MOST_WIDTH = 10_000


def echo(run: Running, argv: list[Text]) -> Status:
    words, ends, escapes = argv[1:], True, False
    while words and (value := words[0].known) and re.fullmatch(r"-[neE]+", value):
        ends, escapes = ends and "n" not in value, "e" in value or escapes
        del words[0]
    text = joined(words)
    if escapes:
        text = _unescaped(text)
    run.print(text + known("\n") if ends else text)
    return True


def _unescaped(text: Text) -> Text:
    return text_of_parts(
        unescaped(part).replace("\0", "") if isinstance(part, str) else part for part in text.parts
    )


def printf(run: Running, argv: list[Text]) -> Status:
    """Print, or set the variable behind `-v`."""
    words = argv[1:]
    name = None
    if words and words[0].known == "-v" and len(words) > 1:
        name = words[1].known
        words = words[2:]
    if words and words[0].known == "--":
        words = words[1:]
    if not words:
        return False
    form = words[0].known
    text = None if form is None else formatted(form, words[1:], run.state)
    if name is not None:
        run.state.set(name, not_known(f"${name}") if text is None else text)
    elif text is None:
        run.print_unknown()
    else:
        run.print(text)
    return True


def formatted(form: str, words: Sequence[Text], state: State) -> Text | None:
    """Return what printf makes of a format and its words, gone over as often as there are words."""
    fields = [match for match in _FIELD.finditer(form) if match[0] != "%%"]
    left = iter(words)
    made = known("")
    count, total = 0, len(words)
    while True:
        state.world.steps.spend(1 + len(form) // 16)
        at = 0
        for match in _FIELD.finditer(form):
            made = made + known(unescaped(form[at : match.start()]).replace("\0", ""))
            at = match.end()
            if match[0] == "%%":
                made = made + known("%")
                continue
            text, used = _field(match, left, state)
            count += used
            if text is None:
                return None
            made = made + text
        made = made + known(unescaped(form[at:]).replace("\0", ""))
        if not fields or count >= total:
            return made


def _field(match: re.Match[str], words: Iterator[Text], state: State) -> tuple[Text | None, int]:
    """Return what one `%...` gives and how many words it takes."""
    flags, width, precision, letter = match.groups()
    used = 0
    sizes: list[int | None] = []
    for size in (width, precision):
        if size == "*":
            value = next(words, known("0")).known
            used += 1
            if value is None or not value.lstrip("-").isdecimal():
                return None, used
            sizes.append(int(value))
        else:
            sizes.append(int(size) if size else None)
    if any(abs(size or 0) > MOST_WIDTH for size in sizes):
        return None, used
    word = next(words, None)
    used += 1
    text = known("") if word is None else word
    spec = "%" + flags + (str(sizes[0]) if sizes[0] is not None else "") + (f".{sizes[1]}" if sizes[1] is not None else "")  # fmt: skip
    if letter in "sbq":
        if letter == "b":
            text = _unescaped(text)
        value = text.known
        if letter == "q":
            return (None if value is None or not re.fullmatch(r"[\w./=:,+@%-]+", value) else text), used  # fmt: skip
        if sizes == [None, None]:
            return text, used
        return (None if value is None else known((spec + "s") % value)), used
    if letter == "c":
        return (None if text.known is None else known(text.known[:1])), used
    try:
        if letter in "diouxX":
            number = state.number(text) if text != known("") else 0
            if number is None:
                return None, used
            return known((spec + ("d" if letter in "diu" else letter)) % number), used
        if letter in "eEfFgG" and text.known is not None:
            return known((spec + letter) % float(text.known or "0")), used
    except (NoNumber, ValueError, OverflowError):
        pass
    return None, used
