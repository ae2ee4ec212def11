"""A loaded YAML or JSON file: plain values that remember where every key and scalar is written.

A key path is a tuple of strings; list elements count from "0". Written as one string it is dotted,
and a dot inside a key is written `\\.`: `fsdp_config.fsdp_version`, `a\\.b.c`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any

from preflight.errors import BadInput, Problem
from preflight.notebooks import place_of
from preflight.values import NamedTuple, dataclass

KeyPath = tuple[str, ...]


class Mark(NamedTuple):
    """Where one entry of a document is written; character offsets into its text."""

    key_start: int
    key_end: int
    """Both -1 for the document itself and for list elements."""
    start: int
    end: int
    """Of the value as spelled, quotes included, anchor and tag not."""
    line: int
    """1-based line of the key, or of the value where there is no key."""
    kind: str
    """plain, quoted, block (text), mapping, sequence, flow_mapping, flow_sequence; the last two in JSON."""
    is_own: bool = True
    """False where the value is written elsewhere: through an alias or a merge key."""
    is_shared: bool = False
    """True where an anchor lets other places use this value."""


@dataclass(frozen=True)
class Document:
    """A loaded file."""

    path: str
    """As the user spelled it."""
    text: str
    kind: str
    """yaml or json."""
    value: dict[Any, Any]
    marks: Mapping[KeyPath, Mark] = field(repr=False)
    problems: tuple[Problem, ...] = ()
    """What does not keep the file from being read: keys given twice."""

    def mark(self, key: str | KeyPath) -> Mark | None:
        """Return the mark of a key, or None where the file does not have it."""
        return self.marks.get(split_key(key) if isinstance(key, str) else key)

    def line(self, key: str | KeyPath) -> int | None:
        """Return the 1-based line of a key."""
        mark = self.mark(key)
        return None if mark is None else mark.line

    def span(self, key: str | KeyPath) -> tuple[int, int] | None:
        """Return the character span of a key's value as spelled."""
        mark = self.mark(key)
        return None if mark is None else (mark.start, mark.end)

    def raw(self, key: str | KeyPath) -> str | None:
        """Return a scalar as the user spelled it, quotes included; None for sections and missing keys."""
        mark = self.mark(key)
        if mark is None or mark.kind not in ("plain", "quoted", "block"):
            return None
        return self.text[mark.start : mark.end]

    def where(self, key: str | KeyPath = ()) -> str:
        """Return `path:line` of a key; the path alone where the key is missing."""
        line = self.line(key) if key else None
        return self.path if line is None else f"{self.path}:{line}"

    def place(self, *keys: str | int) -> str:
        """Return `path:line` of what stands below these keys, or of the nearest above it that is there."""
        path = tuple(str(key) for key in keys)
        while path not in self.marks:
            path = path[:-1]
        return at(self.path, self.marks[path].line)

    def get(self, key: str | KeyPath, default: Any = None) -> Any:
        """Return the value below a key path, or the default where it is missing."""
        return value_at(self.value, key, default)


def value_at(value: Any, key: str | KeyPath, default: Any = None) -> Any:
    """Return what stands below a dotted key, or a path of keys and places in lists; the default where nothing does."""
    for part in split_key(key) if isinstance(key, str) else key:
        if isinstance(value, Mapping) and part in value:
            value = value[part]
        elif isinstance(value, list) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        else:
            return default
    return value


def has_key(value: Any, key: str) -> bool:
    """Tell whether a section has a dotted key, whatever stands there."""
    section, _, name = key.rpartition(".")
    holder = value_at(value, section) if section else value
    return isinstance(holder, Mapping) and name in holder


def with_text_keys(value: Any) -> Any:
    """Return a value whose sections have text for keys, as those that the command line names."""
    if isinstance(value, Mapping):
        return {str(key): with_text_keys(inner) for key, inner in value.items()}
    return [with_text_keys(item) for item in value] if isinstance(value, list) else value


def split_key(key: str) -> KeyPath:
    """Return a dotted key as a path."""
    if "\\." not in key:
        return tuple(key.split("."))
    return tuple(part.replace("\0", ".") for part in key.replace("\\.", "\0").split("."))


def dotted(path: KeyPath) -> str:
    """Return a path as one dotted key."""
    return ".".join(part.replace(".", "\\.") for part in path)


def at(path: str, line: int, column: int | None = None) -> str:
    """Return `path:line:column`; for JSON given inside a flag the flag and the column."""
    if path.startswith("-"):
        return path if column is None else f"{path} (character {column})"
    return place_of(path, line) if column is None else f"{path}:{line}:{column}"


def not_a_mapping(path: str, value: Any, line: int = 1) -> BadInput:
    """Return the error of a file whose top level is not a mapping."""
    kinds = {list: "a list", str: "text", type(None): "nothing"}
    shown = kinds.get(type(value), f"the value {value!r}")
    return BadInput.one(
        f"{path} holds {shown}, not a mapping of keys to values",
        at(path, line),
        "start with a `key: value`",
    )
