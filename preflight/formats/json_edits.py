"""Editing JSON text at marks: order, indentation and number spelling stay as the user wrote them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from preflight.errors import BadInput
from preflight.formats.document import Document, KeyPath, split_key
from preflight.formats.edits import (
    REMOVE,
    CannotEdit,
    json_text,
    line_end,
    line_start,
    replaced,
    with_value,
)
from preflight.formats.load import load_json, parse_json


def splice_json(text: str, edits: Mapping[str | KeyPath, Any]) -> str:
    """Return the text with values replaced, added or, by REMOVE, taken out; new values are plain data.

    Raises CannotEdit where a value outside the edits would change.
    """
    for key, new in edits.items():
        path = split_key(key) if isinstance(key, str) else key
        text = _edit(text, path, new)
    return text


def _edit(text: str, path: KeyPath, new: Any) -> str:
    document = load_json(text, "the file")
    mark = document.mark(path)
    if new is REMOVE:
        if mark is None:
            return text
        after = _remove(document, path)
    elif mark is not None:
        if _same(document.get(path), new):
            return text
        after = replaced(text, mark.start, mark.end, json_text(new))
    else:
        after = _insert(document, path, new)
    try:
        again = parse_json(after, "the file")  # the same values, without marks
    except BadInput as error:
        raise CannotEdit(f"editing {path} breaks the file: {error}") from error
    if repr(again) != repr(with_value(document.value, path, new)):
        raise CannotEdit(f"editing {path} would change something else")
    return after


def _same(old: Any, new: Any) -> bool:
    return type(old) is type(new) and bool(old == new)


def _insert(document: Document, path: KeyPath, new: Any) -> str:
    text, parent = document.text, path[:-1]
    while document.mark(parent) is None:
        parent = parent[:-1]
    section = document.marks[parent]
    if section.kind == "plain" and document.get(parent) is None:
        for name in reversed(path[len(parent) :]):
            new = {name: new}
        return replaced(text, section.start, section.end, json_text(new))
    if section.kind != "flow_mapping":
        raise CannotEdit(f"{parent} is not a section")
    names = path[len(parent) :]
    children = [
        mark
        for other, mark in document.marks.items()
        if len(other) == len(parent) + 1 and other[: len(parent)] == parent
    ]
    if not children:
        entry = _entry(names, new, "", "", "")
        return replaced(text, section.start, section.end, "{" + entry + "}")
    last = max(children, key=lambda mark: mark.end)
    start = line_start(text, last.key_start)
    indent = text[start : last.key_start]
    if indent.strip() or start <= section.start:
        entry = _entry(names, new, "", "", "")
        return replaced(text, last.end, last.end, ", " + entry)
    end = line_end(text, section.start)
    entry = _entry(names, new, end, indent, _indent_unit(text, section.start, indent))
    return replaced(text, last.end, last.end, f",{end}{indent}{entry}")


def _entry(names: KeyPath, new: Any, end: str, indent: str, unit: str) -> str:
    """Return `"a": new`, or `"a": {"b": new}`, broken into lines where the file is."""
    name = json_text(names[0])
    if len(names) == 1:
        return f"{name}: {json_text(new)}"
    inner = _entry(names[1:], new, end, indent + unit, unit)
    if not end:
        return f"{name}: {{{inner}}}"
    return f"{name}: {{{end}{indent}{unit}{inner}{end}{indent}}}"


def _indent_unit(text: str, section_start: int, indent: str) -> str:
    """Return what one level of this file adds to the indentation."""
    start = line_start(text, section_start)
    outer = text[start:section_start]
    outer = outer[: len(outer) - len(outer.lstrip())]
    return indent[len(outer) :] if indent.startswith(outer) and len(indent) > len(outer) else "  "


def _remove(document: Document, path: KeyPath) -> str:
    text, mark = document.text, document.marks[path]
    if mark.key_start < 0:
        raise CannotEdit(f"{path} is an element of a list")
    after = mark.end + len(text[mark.end :]) - len(text[mark.end :].lstrip())
    if text[after] == ",":
        stop = after + 1 + len(text[after + 1 :]) - len(text[after + 1 :].lstrip())
        return replaced(text, mark.key_start, stop, "")
    before = text[: mark.key_start].rstrip()
    if before.endswith(","):
        return replaced(text, len(before) - 1, mark.end, "")
    section = document.marks[path[:-1]]
    return replaced(text, section.start, section.end, "{}")
