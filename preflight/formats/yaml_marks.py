"""Loading YAML with marks: compose nodes once, construct values from them, and say errors plainly."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from preflight.errors import BadInput, Problem
from preflight.formats.document import Document, KeyPath, Mark, at, dotted, not_a_mapping
from preflight.formats.marks import Entries
from preflight.lazy_pattern import lazy_pattern

_PROPERTIES = lazy_pattern(r"(?:[&!][^\s,\[\]{}]*\s+)+")
_ALIAS = lazy_pattern(r"\s*:\s+(\*[^\s,\[\]{}]+)")
_INT_TAG = "tag:yaml.org,2002:int"
_MERGE_TAG = "tag:yaml.org,2002:merge"


def read_yaml(text: str, path: str, duplicates: str) -> Document:
    """Load YAML text; see documents.load_yaml."""
    import yaml

    # libyaml skips a byte order mark without counting it, so it must not see it.
    shift = 1 if text.startswith("\ufeff") else 0
    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(text[shift:])
    try:
        node = loader.get_single_node()
        if node is None:
            raise BadInput.one(f"{path} is empty", path, "give it the settings, or drop the file")
        marker = _Marker(text, path, shift, duplicates)
        marker.walk(node, (), (-1, -1, node.start_mark.line + 1), True, ())
        value = loader.construct_document(node)
    except (yaml.YAMLError, yaml.reader.ReaderError) as error:
        raise BadInput(_syntax_problem(error, text[shift:], path)) from error
    except RecursionError as error:
        raise BadInput.one(f"{path} is nested too deeply", path) from error
    except (ValueError, TypeError, OverflowError) as error:
        # A plain scalar that looks like a date, a time or a number and is none: 2026-13-45, 0x_.
        # The constructor was inside this node when it failed.
        bad = next(reversed(loader.recursive_objects), node).start_mark
        raise BadInput.one(
            f"a value that YAML reads as a date or a number and that is none: {error}",
            at(path, bad.line + 1, bad.column + 1),
            "put quotes around the value",
        ) from error
    finally:
        loader.dispose()
    if not isinstance(value, dict):
        raise not_a_mapping(path, value, node.start_mark.line + 1)
    return Document(path, text, "yaml", value, marker.marks, marker.entries.problems)


LONGEST_NUMBER = 1_000
"""Characters; Python writes no number of more than 4,300 digits."""
MAX_MERGED = 10_000
"""Mappings that `<<` brings in, counted as often as they are."""


class _Marker:
    """Collects the marks of a node tree."""

    def __init__(self, text: str, path: str, shift: int, duplicates: str) -> None:
        self.text = text
        self.path = path
        self.shift = shift
        self.entries = Entries(path, text, duplicates)
        self.marks = self.entries.marks
        self.seen: dict[int, KeyPath] = {}
        self.num_merged = 0

    def walk(
        self,
        node: Any,
        key_path: KeyPath,
        key: tuple[int, int, int],
        is_own: bool,
        above: tuple[int, ...],
    ) -> int:
        """Mark a node and everything below it; return where it ends, -1 where it is written elsewhere.

        `key` is (start, end, line) of its key.
        """
        if id(node) in above:
            raise BadInput.one(
                f"{dotted(key_path)} contains itself through an alias",
                at(self.path, key[2]),
                "write the value out instead of using `*`",
            )
        self.entries.refuse_more()
        if node.tag == _INT_TAG and len(node.value) > LONGEST_NUMBER:
            long = f"{dotted(key_path)} is a number of {len(node.value):,} characters"
            raise BadInput.one(long, at(self.path, key[2]))
        kind = _kind(node)
        start: int = node.start_mark.index + self.shift
        end: int = node.end_mark.index + self.shift
        if self.text[start : start + 1] in ("&", "!") and start < end:
            match = _PROPERTIES.match(self.text, start, end)
            start = match.end() if match else end
        first_use = self.seen.setdefault(id(node), key_path)
        is_shared = False
        if first_use != key_path and is_own:
            is_own = False
            # The alias itself follows its key; in a list it cannot be found this way.
            match = _ALIAS.match(self.text, key[1]) if key[1] >= 0 else None
            start, end = match.span(1) if match else (-1, -1)
            owner = self.marks[first_use]
            self.marks[first_use] = owner._replace(is_shared=True)
            is_shared = match is None
        self.marks[key_path] = Mark(*key[:2], start, end, key[2], kind, is_own, is_shared)
        above = (*above, id(node))
        ends = [-1]
        if kind in ("mapping", "flow_mapping"):
            ends += self._walk_mapping(node, key_path, is_own, above)
        elif kind in ("sequence", "flow_sequence"):
            for index, item in enumerate(node.value):
                where = (-1, -1, item.start_mark.line + 1)
                ends.append(self.walk(item, (*key_path, str(index)), where, is_own, above))
        if not is_own:
            return -1
        if kind in ("mapping", "sequence"):
            # The parser ends a block at the next token, after the comments and blank lines between.
            end = max(start, *ends)
            self.marks[key_path] = self.marks[key_path]._replace(end=end)
        return end

    def _walk_mapping(
        self, node: Any, key_path: KeyPath, is_own: bool, above: tuple[int, ...]
    ) -> Iterator[int]:
        """Mark the entries of a mapping; yield where each ends."""
        lines: dict[str, int] = {}
        merged: list[Any] = []
        for key_node, value_node in node.value:
            if key_node.tag == _MERGE_TAG:
                merged.append(value_node)
                continue
            if not isinstance(key_node.value, str):
                continue  # A list or mapping as a key: the constructor says that it cannot be one.
            name: str = key_node.value
            line = key_node.start_mark.line + 1
            if name in lines and is_own:
                self._forget((*key_path, name), lines[name], line)
            lines[name] = line
            span = (key_node.start_mark.index + self.shift, key_node.end_mark.index + self.shift)
            yield self.walk(value_node, (*key_path, name), (*span, line), is_own, above)
        for source in merged:
            self._walk_merge(source, key_path, lines, above)

    def _walk_merge(
        self, source: Any, key_path: KeyPath, lines: dict[str, int], above: tuple[int, ...]
    ) -> None:
        """Mark what `<<` brings in, where the mapping does not say it itself."""
        if isinstance(source.value, str):
            return  # Not a mapping: the constructor refuses it.
        self.num_merged += 1
        if self.num_merged > MAX_MERGED:
            raise BadInput.one(f"{self.path} merges more than {MAX_MERGED:,} mappings", self.path)
        for item in source.value:
            if not isinstance(item, tuple):  # A list of mappings; the first one wins.
                self._walk_merge(item, key_path, lines, above)
                continue
            key_node, value_node = item
            if key_node.tag == _MERGE_TAG:
                self._walk_merge(value_node, key_path, lines, above)
            elif isinstance(key_node.value, str) and key_node.value not in lines:
                lines[key_node.value] = key_node.start_mark.line + 1
                place = (-1, -1, lines[key_node.value])
                self.walk(value_node, (*key_path, key_node.value), place, False, above)

    def _forget(self, key_path: KeyPath, first: int, second: int) -> None:
        """Drop what is known of a value that a later one with the same key replaces."""
        self.entries.given_twice(key_path, first, second)
        depth = len(key_path)
        self.seen = {i: path for i, path in self.seen.items() if path[:depth] != key_path}


def _kind(node: Any) -> str:
    if node.id == "scalar":
        return {"'": "quoted", '"': "quoted", "|": "block", ">": "block"}.get(node.style, "plain")
    kind: str = node.id
    return f"flow_{kind}" if node.flow_style else kind


_PLAIN_WORDS = (
    (
        "mapping values are not allowed",
        "a `key:` stands where none can be",
        "indent it like its neighbours, or put quotes around a value that has a `: ` in it",
    ),
    (
        "could not find expected ':'",
        "a line that is neither `key: value` nor part of the value above",
        "write a `:` and a space after the key, or end the quote that is open",
    ),
    (
        "did not find expected key",
        "the indentation does not match the lines above",
        "start the keys of one section in the same column",
    ),
    (
        "did not find expected '-' indicator",
        "the indentation does not match the list above",
        "start the items of one list in the same column",
    ),
    ("did not find expected ',' or", "a `,`, `}` or `]` is missing", "close the bracket"),
    ("found unexpected end of stream", "a quote is never closed", "end the quoted value"),
    ("found undefined alias", "an alias (`*name`) without its anchor (`&name`)", ""),
    ("expected a single document", "a second document (`---`)", "keep one document in the file"),
    ("expected the document start", "a second document", "keep one document in the file"),
    (
        "could not determine a constructor",
        "a tag (`!...`) that only code could read",
        "drop the tag",
    ),
    ("found unhashable key", "a list or a mapping used as a key", ""),
    (
        "found duplicate anchor",
        "an anchor (`&name`) that was given before",
        "rename one of the two",
    ),
    ("found unknown escape", "an unknown `\\` escape in double quotes", "use single quotes"),
)
"""What PyYAML says, what we say, and the fix."""


def _syntax_problem(error: Any, text: str, path: str) -> Problem:
    """Return a plain problem with line and column for whatever PyYAML raised."""
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        position = getattr(error, "position", None)
        if not isinstance(position, int):
            return Problem(f"{path} is not YAML: {error}", path)
        before = text[:position]
        where = at(path, before.count("\n") + 1, position - before.rfind("\n"))
        return Problem(
            "a character that YAML does not allow", where, "remove the control character"
        )
    said = f"{error.context or ''} {error.problem or ''}"
    if any(words in said for words in ("expected ':'", "end of stream", "expected ',' or")):
        mark = error.context_mark or mark  # Where it was opened, not where the parser gave up.
    where = at(path, mark.line + 1, mark.column + 1)
    line = (text.splitlines() or [""])[min(mark.line, len(text.splitlines()) - 1)]
    if "cannot start any token" in said:
        if line[mark.column : mark.column + 1] == "\t" or "\t" in line[: mark.column + 1]:
            return Problem("a tab is used to indent", where, "indent with spaces")
        character = line[mark.column : mark.column + 1]
        return Problem(
            f"a value cannot start with {character!r}", where, "put quotes around the value"
        )
    indent = line[: len(line) - len(line.lstrip())]
    if "\t" in indent:
        return Problem("a tab is used to indent", where, "indent with spaces")
    ended = line[: mark.column].rstrip()[-1:]
    if "did not find expected key" in said and ended and ended in "}]\"'":
        message = f"a value ends with its {ended!r}, and more of it stands behind"
        return Problem(message, where, "put quotes around the whole value")
    for words, message, fix in _PLAIN_WORDS:
        if words in said:
            return Problem(message, where, fix)
    return Problem(f"not YAML: {(error.problem or str(error)).strip()}", where)
