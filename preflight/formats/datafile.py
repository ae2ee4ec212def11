"""A YAML or JSON file that a person wrote for preflight itself (plan, runs, policy), with the line of every key."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import field
from typing import Any

from preflight.errors import BadInput, Problem, raise_if_any
from preflight.values import dataclass

LONGEST_TEXT = 64 * 1024**2
MOST_ENTRIES = 1_000_000
"""Of a file of preflight's own, aliases counted as often as they are used."""


@dataclass(frozen=True)
class DataFile:
    """What a file holds, and where it says so."""

    path: str
    value: Any
    node: Any = None
    """The YAML node of the whole document; None for JSON, which has no lines here."""
    entries: dict[int, dict[Any, tuple[int, Any]]] = field(default_factory=dict, repr=False)

    def place(self, *keys: str | int) -> str:
        """Return `path:line` of the value below these keys, or of the nearest one above it."""
        if self.node is None:
            return self.path
        node, line = self.node, self.node.start_mark.line
        for key in keys:
            found = self._entries(node).get(key)
            if found is None:
                break
            line, node = found
        return f"{self.path}:{line + 1}"

    def _entries(self, node: Any) -> dict[Any, tuple[int, Any]]:
        """Return line and node of what a node holds; found once, because a file may have thousands of keys."""
        if id(node) not in self.entries:
            pairs = reversed([*_children(node)])
            self.entries[id(node)] = {
                key: (line, child) for key, line, child in pairs if isinstance(key, (str, int))
            }
        return self.entries[id(node)]

    def mapping(self) -> Mapping[str, Any]:
        """Return the value of a file that must hold a mapping."""
        if not isinstance(self.value, dict):
            held = "nothing" if self.value is None else type(self.value).__name__
            raise BadInput.one(f"must hold a mapping, not {held}", self.path)
        return self.value


def read_data_file(path: str) -> DataFile:
    """Read a YAML file, or a JSON file by its ending; raise BadInput naming file and line."""
    text = read_text_file(path)
    if path.endswith(".json"):
        return DataFile(path, parse_json(text, path))
    import yaml

    # Typed as Any: the C loader exists only where libyaml does, and is ten times as fast.
    loader_class: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        loader = loader_class(text)
        try:
            node = loader.get_single_node()
            value = None if node is None else loader.construct_document(node)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = path if mark is None else f"{path}:{mark.line + 1}"
        raise BadInput.one(f"not readable as YAML: {error.problem}", where) from error
    except RecursionError as error:
        raise BadInput.one("is nested too deeply", path) from error
    except (yaml.YAMLError, ValueError, TypeError, OverflowError) as error:
        raise BadInput.one(f"not readable as YAML: {error}", path) from error
    if node is not None:
        _check_size(node, path)
        raise_if_any(_duplicates(node, path, set()))
    return DataFile(path, value, node)


def read_text_file(path: str) -> str:
    """Return a file's text; raise BadInput where there is none."""
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read(LONGEST_TEXT + 1)
    except OSError as error:
        raise BadInput.one(f"cannot be read: {error.strerror}", path) from error
    except UnicodeDecodeError as error:
        raise BadInput.one("is not UTF-8 text", path) from error
    if len(text) > LONGEST_TEXT:
        raise BadInput.one(f"has more than {LONGEST_TEXT:,} characters", path)
    return text


def parse_json(text: str, path: str) -> Any:
    """Return the value of a JSON text; raise BadInput with the line that breaks it."""
    import json

    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise BadInput.one(
            f"not readable as JSON: {error.msg}", f"{path}:{error.lineno}"
        ) from error
    except RecursionError as error:
        raise BadInput.one("is nested too deeply", path) from error
    except ValueError as error:  # Python converts no number of more than 4,300 digits
        raise BadInput.one(f"not readable as JSON: {error}", path) from error


def _children(node: Any) -> Iterator[tuple[str | int, int, Any]]:
    """Yield key (or index), line and node of what a YAML node holds."""
    if node.id == "mapping":
        for key, value in node.value:
            yield key.value, key.start_mark.line, value
    elif node.id == "sequence":
        for index, item in enumerate(node.value):
            yield index, item.start_mark.line, item


def _check_size(node: Any, path: str) -> None:
    """Refuse a document that contains itself, and one whose aliases make it huge."""
    sizes: dict[int, int] = {}
    open_nodes: set[int] = set()
    waiting: list[tuple[Any, bool]] = [(node, False)]
    while waiting:
        current, is_done = waiting.pop()
        children = [child for _, _, child in _children(current)]
        if is_done:
            open_nodes.discard(id(current))
            sizes[id(current)] = 1 + sum(sizes[id(child)] for child in children)
            if sizes[id(current)] > MOST_ENTRIES:
                raise BadInput.one(f"has more than {MOST_ENTRIES:,} entries", path)
        elif id(current) in open_nodes:
            where = f"{path}:{current.start_mark.line + 1}"
            raise BadInput.one("contains itself through an alias", where)
        elif id(current) not in sizes:
            open_nodes.add(id(current))
            waiting.append((current, True))
            waiting.extend((child, False) for child in reversed(children))


def _duplicates(node: Any, path: str, done: set[int]) -> Iterator[Problem]:
    """Yield a problem for every key that stands twice in one mapping: YAML would keep the last."""
    seen: dict[object, int] = {}
    for key, line, value in _children(node):
        if node.id == "mapping" and not isinstance(key, (str, int)):
            continue  # a list or a mapping as a key: YAML has refused it already
        if node.id == "mapping" and key in seen:
            yield Problem(
                f"{key} is given twice, first in line {seen[key] + 1}", f"{path}:{line + 1}"
            )
        seen.setdefault(key, line)
        if value.id != "scalar" and id(value) not in done:
            done.add(id(value))
            yield from _duplicates(value, path, done)
