"""A YAML or JSON file that a person wrote for preflight itself (plan, runs, policy), with the line of every key."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from preflight.errors import BadInput, Problem, raise_if_any
from preflight.values import dataclass


@dataclass(frozen=True)
class DataFile:
    """What a file holds, and where it says so."""

    path: str
    value: Any
    node: Any = None
    """The YAML node of the whole document; None for JSON, which has no lines here."""

    def place(self, *keys: str | int) -> str:
        """Return `path:line` of the value below these keys, or of the nearest one above it."""
        if self.node is None:
            return self.path
        node, line = self.node, self.node.start_mark.line
        for key in keys:
            found = next((pair for pair in _children(node) if pair[0] == key), None)
            if found is None:
                break
            line, node = found[1], found[2]
        return f"{self.path}:{line + 1}"

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
    except (yaml.YAMLError, ValueError) as error:
        raise BadInput.one(f"not readable as YAML: {error}", path) from error
    if node is not None:
        raise_if_any(_duplicates(node, path))
    return DataFile(path, value, node)


def read_text_file(path: str) -> str:
    """Return a file's text; raise BadInput where there is none."""
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError as error:
        raise BadInput.one(f"cannot be read: {error.strerror}", path) from error
    except UnicodeDecodeError as error:
        raise BadInput.one("is not UTF-8 text", path) from error


def parse_json(text: str, path: str) -> Any:
    """Return the value of a JSON text; raise BadInput with the line that breaks it."""
    import json

    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise BadInput.one(
            f"not readable as JSON: {error.msg}", f"{path}:{error.lineno}"
        ) from error


def _children(node: Any) -> Iterator[tuple[str | int, int, Any]]:
    """Yield key (or index), line and node of what a YAML node holds."""
    if node.id == "mapping":
        for key, value in node.value:
            yield key.value, key.start_mark.line, value
    elif node.id == "sequence":
        for index, item in enumerate(node.value):
            yield index, item.start_mark.line, item


def _duplicates(node: Any, path: str) -> Iterator[Problem]:
    """Yield a problem for every key that stands twice in one mapping: YAML would keep the last."""
    seen: dict[object, int] = {}
    for key, line, value in _children(node):
        if node.id == "mapping" and key in seen:
            yield Problem(
                f"{key} is given twice, first in line {seen[key] + 1}", f"{path}:{line + 1}"
            )
        seen.setdefault(key, line)
        yield from _duplicates(value, path)
