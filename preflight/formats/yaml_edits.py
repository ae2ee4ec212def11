"""Editing YAML text at marks: comments, order, quotes and line ends stay as the user wrote them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from preflight.errors import BadInput
from preflight.formats.document import Document, KeyPath, Mark, split_key
from preflight.formats.edits import (
    REMOVE,
    CannotEdit,
    line_end,
    line_start,
    next_line,
    replaced,
    with_value,
    yaml_text,
)
from preflight.formats.load import load_yaml


def splice_yaml(text: str, edits: Mapping[str | KeyPath, Any]) -> str:
    """Return the text with scalars replaced, added or removed.

    A new value that is text is YAML as it shall stand in the file (`true`, `'no'`): yaml_text spells
    a Python string. REMOVE takes the key out. A missing key goes to the end of its section, a missing
    section to the end of the file. Raises CannotEdit where a value outside the edits would change.
    """
    for key, new in edits.items():
        path = split_key(key) if isinstance(key, str) else key
        spelled = new if isinstance(new, str) or new is REMOVE else yaml_text(new)
        text = _edit(text, path, spelled)
    return text


def _edit(text: str, path: KeyPath, new: Any) -> str:
    document = load_yaml(text, "the file")
    if new is REMOVE:
        while path in document.marks:
            # A key that is given twice has to go twice.
            text = _remove(document, path)
            document = _checked(document, text, None, path, REMOVE)
        return text
    mark = document.mark(path)
    if mark is not None and mark.kind in ("mapping", "sequence"):
        raise CannotEdit(f"{path} is a section")
    if mark is not None and mark.start >= 0 and (mark.is_own or mark.key_start >= 0):
        after = _replace(text, mark, new)
    else:
        after = _insert(document, path, new)
    if after == text:
        return text
    _checked(document, after, path, path, new)
    return after


def _checked(
    document: Document, after: str, must_have: KeyPath | None, path: KeyPath, new: Any
) -> Document:
    """Return the edited document; raise CannotEdit unless exactly the wanted value changed."""
    try:
        again = load_yaml(after, "the file")
        wanted = REMOVE if new is REMOVE else load_yaml(f"value: {new}", "the value").value["value"]
    except BadInput as error:
        raise CannotEdit(f"editing {path} breaks the file: {error}") from error
    if must_have is not None and must_have not in again.marks:
        raise CannotEdit(f"cannot write {path}")
    if new is REMOVE and path in again.marks:
        return again
    if repr(again.value) != repr(with_value(document.value, path, wanted)):
        raise CannotEdit(f"editing {path} would change something else")
    return again


def _replace(text: str, mark: Mark, new: str) -> str:
    if mark.is_shared:
        raise CannotEdit("the value is used elsewhere through an alias")
    end = mark.end
    while mark.kind == "block" and end > mark.start and text[end - 1] in "\r\n":
        end -= 1
    if text[mark.start : end] == new:
        return text
    # `key:` with nothing behind it: the colon must not touch the value.
    gap = " " if mark.start == end and text[mark.start - 1 : mark.start] == ":" else ""
    return replaced(text, mark.start, end, gap + new)


def _insert(document: Document, path: KeyPath, new: str) -> str:
    text, parent = document.text, path[:-1]
    section = document.mark(parent)
    line = f"{yaml_text(path[-1])}: {new}"
    if section is None:
        # Create the section around the key, as one entry of whatever holds the section.
        holder = parent
        while document.mark(holder[:-1]) is None:
            holder = holder[:-1]
        return _insert_entry(document, holder[:-1], path[len(holder) - 1 :], new)
    if not section.is_own:
        raise CannotEdit(f"{parent} is written elsewhere")
    if section.kind == "plain" and document.get(parent) is None:
        if section.start == section.end:
            indent = " " * (_column(text, section.key_start) + _indent_unit(document))
            return _after_line(text, section.end, [indent + line])
        return replaced(text, section.start, section.end, "{" + line + "}")
    return _insert_entry(document, parent, path[-1:], new)


def _insert_entry(document: Document, parent: KeyPath, names: KeyPath, new: str) -> str:
    """Add `a: new`, or `a:` with `b: new` below it, at the end of the mapping `parent`."""
    text, section = document.text, document.marks[parent]
    children = [
        mark
        for path, mark in document.marks.items()
        if len(path) == len(parent) + 1 and path[: len(parent)] == parent and mark.key_start >= 0
    ]
    if section.kind == "flow_mapping":
        entry = new
        for depth, name in enumerate(reversed(names)):
            entry = f"{yaml_text(name)}: " + (f"{{{entry}}}" if depth else entry)
        if not children:
            return replaced(text, section.start, section.end, "{" + entry + "}")
        end = max(max(mark.end, mark.key_end) for mark in children)
        return replaced(text, end, end, f", {entry}")
    if section.kind != "mapping":
        raise CannotEdit(f"{parent} is not a section")
    column, unit = _column(text, section.start), _indent_unit(document)
    lines = [
        " " * (column + depth * unit) + yaml_text(name) + ":" for depth, name in enumerate(names)
    ]
    lines[-1] += f" {new}"
    last = max((mark.end for mark in _below(document, parent)), default=section.start)
    last = max([last, section.start, *(mark.key_end for mark in children)])
    return _after_line(text, last, lines)


def _below(document: Document, parent: KeyPath) -> list[Mark]:
    depth = len(parent)
    return [
        mark
        for path, mark in document.marks.items()
        if len(path) > depth and path[:depth] == parent and (mark.is_own or mark.key_start >= 0)
    ]


def _after_line(text: str, offset: int, lines: list[str]) -> str:
    """Insert whole lines after the line of an offset, with that line's end."""
    end = line_end(text, offset)
    if offset and text[offset - 1 : offset] == "\n":  # A block of text ends on the line above.
        at = offset
    else:
        at = next_line(text, offset)
    block = end.join(lines)
    if at == len(text) and not text.endswith("\n"):
        return text + end + block
    return replaced(text, at, at, block + end)


def _remove(document: Document, path: KeyPath) -> str:
    text, mark, section = document.text, document.marks[path], document.marks[path[:-1]]
    siblings = [
        found
        for other, found in document.marks.items()
        if len(other) == len(path) and other[:-1] == path[:-1] and other != path
    ]
    if mark.key_start < 0 or mark.is_shared:
        raise CannotEdit(f"{path} is written elsewhere")
    end = max(mark.end, mark.key_end)
    if section.kind == "flow_mapping":
        return _remove_from_flow(text, mark.key_start, end)
    start = line_start(text, mark.key_start)
    if text[start : mark.key_start].strip():
        raise CannotEdit(f"{path} shares its line")
    below = [found.end for found in (*_below(document, path), mark)]
    stop = max(below) if text[max(below) - 1] == "\n" else next_line(text, max(below))
    if siblings or not path[:-1]:
        return replaced(text, start, stop, "")
    head = document.marks[path[:-1]].key_end
    colon = text.index(":", head) + 1
    return replaced(replaced(text, start, stop, ""), colon, colon, " {}")


def _remove_from_flow(text: str, start: int, end: int) -> str:
    after = end + len(text[end:]) - len(text[end:].lstrip())
    if text[after : after + 1] == ",":
        rest = text[after + 1 :]
        return replaced(text, start, len(text) - len(rest.lstrip(" ")), "")
    before = text[:start].rstrip()
    return replaced(text, len(before) - 1 if before.endswith(",") else start, end, "")


def _column(text: str, offset: int) -> int:
    return (
        offset
        - line_start(text, offset)
        - (text.startswith("\ufeff") and offset < next_line(text, 0))
    )


def _indent_unit(document: Document) -> int:
    """Return how far the file indents a section below its key."""
    for path, mark in document.marks.items():
        if path and mark.kind == "mapping" and mark.is_own and mark.key_start >= 0:
            unit = _column(document.text, mark.start) - _column(document.text, mark.key_start)
            if unit > 0:
                return unit
    return 2
