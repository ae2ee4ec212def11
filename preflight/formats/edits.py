"""What the text editors share: the spelling of a value in YAML and JSON, removal, and refusing to edit.

The editors themselves are yaml_edits, json_edits and argv_edits: they change marked places of the
user's text and nothing else, and each reads its own result again before it returns it.
"""

from __future__ import annotations

import json
from typing import Any, Final

from preflight.formats.yaml_plain import is_plain_text
from preflight.lazy_pattern import lazy_pattern


class _Remove:
    """The type of REMOVE."""

    def __repr__(self) -> str:
        return "REMOVE"


REMOVE: Final = _Remove()
"""As a new value: take the key out."""


class CannotEdit(Exception):
    """The text cannot be edited without changing something else; the writer then writes nothing."""


class NotInRelease(CannotEdit):
    """A release that the launch may have does not take what would be written: its words say which, and what."""


_PLAIN = lazy_pattern(r"[A-Za-z_/.][A-Za-z0-9_./+-]*")


def yaml_text(value: Any) -> str:
    """Return the YAML spelling of a value; text that would read as something else gets quotes."""
    if isinstance(value, str):
        if _PLAIN.fullmatch(value) and is_plain_text(value):
            return value
        # JSON's double quotes are YAML's, and they can hold any character on one line.
        return f"'{value}'" if value.isprintable() and "'" not in value else json.dumps(value)
    if isinstance(value, float):
        # YAML 1.1 reads `1e-05` as text: it wants the dot.
        text = repr(value)
        return text if "." in text or "e" not in text else text.replace("e", ".0e")
    return json.dumps(value)


def json_text(value: Any) -> str:
    """Return the JSON spelling of a value, on one line."""
    return json.dumps(value, ensure_ascii=False)


def line_end(text: str, near: int = 0) -> str:
    """Return the line end that the text uses at an offset, or where it first breaks a line."""
    after = text.find("\n", near)
    if after < 0:
        after = text.rfind("\n", 0, near)
    if after < 0:
        return "\n"
    return "\r\n" if text[after - 1 : after] == "\r" else "\n"


def line_start(text: str, offset: int) -> int:
    """Return the offset at which the line of an offset starts."""
    return text.rfind("\n", 0, offset) + 1


def next_line(text: str, offset: int) -> int:
    """Return the offset after the line of an offset, its line end included."""
    after = text.find("\n", offset)
    return len(text) if after < 0 else after + 1


def replaced(text: str, start: int, end: int, new: str) -> str:
    """Return the text with one span replaced."""
    return text[:start] + new + text[end:]


def with_value(value: Any, path: tuple[str, ...], new: Any) -> Any:
    """Return a copy of nested plain data with one value set or, by REMOVE, taken out."""
    if not path:
        return new
    if isinstance(value, list):
        index = int(path[0])
        return [*value[:index], with_value(value[index], path[1:], new), *value[index + 1 :]]
    copy = dict(value or {})
    key = next((known for known in copy if _spelled(known) == path[0]), path[0])
    if new is REMOVE and len(path) == 1:
        copy.pop(key, None)
    elif new is not REMOVE or key in copy:
        copy[key] = with_value(copy.get(key), path[1:], new)
    return copy


def _spelled(key: Any) -> Any:
    return key if isinstance(key, str) else str(key)
