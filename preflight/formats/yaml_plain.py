"""Loading the YAML that most launch configs are, without PyYAML, whose import takes as long as `python -c pass`.

Only what cannot be misread is read here: lines of `key: value`, one level of sections, and words,
numbers, addresses and quoted words as values. Anything else is left to yaml_marks, mistakes too.
"""

from __future__ import annotations

import re
from typing import Any

from preflight.bool_words import YAML_1_1
from preflight.formats.document import Document, KeyPath, Mark
from preflight.lazy_pattern import lazy_pattern

_LINE = lazy_pattern(
    r"( *)([A-Za-z_]\w*):"  # indent and key
    r"(?: +([A-Za-z0-9_/][\w./-]*|'[^'\\]*'|\"[^\"\\]*\"))?"  # a plain or a quoted word
    r"(?: +#.*| *)",
    re.ASCII,
)

_WORDS = {
    spelling: value
    for word, value in (
        *dict.fromkeys(YAML_1_1.true, True).items(),
        *dict.fromkeys(YAML_1_1.false, False).items(),
        ("null", None),
    )
    for spelling in (word, word.capitalize(), word.upper())
}
"""The plain words that are no text (YAML 1.1, as PyYAML's resolver has them)."""

LONGEST_NUMBER = 18
LONGEST_KEY = 128
"""What is longer is read by PyYAML, which has limits."""


def read_plain_yaml(text: str, path: str) -> Document | None:
    """Return what yaml_marks.read_yaml returns, or None for a text that is not plain enough."""
    if not text.isascii() or not text.replace("\n", "").isprintable():
        return None
    values: dict[str, Any] = {}
    marks: dict[KeyPath, Mark] = {}
    key_path: KeyPath
    section: str | None = None
    width = begin = 0
    for number, line in enumerate(text.split("\n"), 1):
        offset, begin = begin, begin + len(line) + 1
        if line.lstrip(" ")[:1] in ("", "#"):
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            return None
        indent, key, written = match.groups()
        if not indent:
            if section is not None and not values[section]:
                return None  # a key without a value
            section, held, key_path = None, values, (key,)
        elif section is None or written is None:
            return None
        else:
            held, key_path = values[section], (section, key)
            if held and len(indent) != width:
                return None
            width = len(indent)
        if key in held or key in _WORDS or len(key) > LONGEST_KEY:
            return None
        key_start, key_end = offset + match.start(2), offset + match.end(2)
        start, end = offset + match.start(3), offset + match.end(3)
        if written is None:
            section, held[key], kind = key, {}, "mapping"
        else:
            held[key] = value = written[1:-1] if written[0] in "'\"" else _value(written)
            kind = "quoted" if written[0] in "'\"" else "plain"
            if value is _UNSURE:
                return None
        marks[key_path] = Mark(key_start, key_end, start, end, number, kind)
    if not values or (section is not None and not values[section]):
        return None
    _mark_mappings(values, marks)
    return Document(path, text, "yaml", values, marks)


def _mark_mappings(values: dict[str, Any], marks: dict[KeyPath, Mark]) -> None:
    """Give every section, and the whole, the place from its first key to its last value."""
    for key, value in values.items():
        if isinstance(value, dict):
            inner = [marks[key, name] for name in value]
            marks[(key,)] = marks[(key,)]._replace(start=inner[0].key_start, end=inner[-1].end)
    own = [marks[(key,)] for key in values]
    marks[()] = Mark(-1, -1, own[0].key_start, own[-1].end, own[0].line, "mapping")


def is_plain_text(word: str) -> bool:
    """Tell whether YAML reads a word of letters, digits and `_./+-` without quotes as the text that it is."""
    value = _value(word)
    if word == "...":
        return False  # the end of a document
    if value is _UNSURE:
        import yaml

        value = yaml.safe_load(word)
    return bool(value == word)


_UNSURE = object()


def _value(written: str) -> Any:
    """Return what a plain scalar means; _UNSURE where only PyYAML's rules can tell."""
    if written in _WORDS:
        return _WORDS[written]
    if written[0].isalpha() or written[0] in "_/":
        return written
    parts = written.split(".")
    if not all(part.isdecimal() for part in parts):
        return _UNSURE
    if len(parts) == 4:
        return written  # an address
    if (written[0] == "0" and parts[0] != "0") or len(parts) > 2 or len(written) > LONGEST_NUMBER:
        return _UNSURE  # 007 is octal
    return float(written) if len(parts) == 2 else int(written)
