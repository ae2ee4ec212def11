"""Other words put in the place of one command's in shell text; words that stay keep their own text."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from preflight.shell.commands import ShellCommand


def with_words(text: str, command: ShellCommand, argv: Sequence[str]) -> str:
    """Return the script with one command's words replaced; words that stay keep their own text, variables included."""
    import difflib

    old = command.argv
    before: dict[int, list[str]] = {}
    instead: dict[int, list[str]] = {}
    matcher = difflib.SequenceMatcher(None, old, list(argv), autojunk=False)
    for tag, first, last, new_first, new_last in matcher.get_opcodes():
        new = list(argv[new_first:new_last])
        if tag == "insert":
            before[first] = new
        elif tag != "equal":
            for index in range(first, last):
                instead[index] = new if index == first else []
    result = text
    if len(old) in before:
        added = "".join(f" {shlex.quote(word)}" for word in before[len(old)])
        result = result[: command.end] + added + result[command.end :]
    index = len(old)
    for word in reversed(command.words):
        indices = range(index - len(word.texts), index)
        index -= len(word.texts)
        ahead = before.get(index, []) if indices else []
        inner = any(k in instead for k in indices) or any(k in before for k in indices[1:])
        if not ahead and not inner:
            continue
        new_words = list(ahead)
        for k in indices:
            new_words += before.get(k, []) if k != index else []
            new_words += instead.get(k, [old[k]])
        start, end = word.start, word.end
        if not inner:
            shown = "".join(f"{shlex.quote(item)} " for item in ahead)
            result = result[:start] + shown + result[start:]
            continue
        shown = " ".join(shlex.quote(item) for item in new_words)
        if not shown:
            while start > 0 and result[start - 1] in " \t":
                start -= 1
        result = result[:start] + shown + result[end:]
    return result
