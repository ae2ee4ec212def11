"""YAML and JSON files, of a launch or for preflight itself, loaded with marks; the reader that a text needs is imported when it is met."""

from __future__ import annotations

import json
from typing import Any

from preflight.errors import BadInput, raise_if_any
from preflight.formats.document import Document, at
from preflight.launch import LaunchCommand

LONGEST_TEXT = 64 * 1024**2
"""Characters of a file; a config has thousands."""


def load_yaml(text: str, path: str, duplicates: str = "warning") -> Document:
    """Load YAML as PyYAML's safe loader reads it, in one pass, with marks.

    Raises BadInput for a syntax error, an empty file and a top level that is not a mapping.
    """
    from preflight.formats.yaml_plain import read_plain_yaml

    _refuse_long(text, path)
    document = read_plain_yaml(text, path)
    if document is not None:
        return document
    from preflight.formats.yaml_marks import read_yaml

    return read_yaml(text, path, duplicates)


def load_json(text: str, path: str, duplicates: str = "error") -> Document:
    """Load JSON to the values of json.loads, with marks. Raises BadInput as load_yaml does.

    A key given twice is an error here because DeepSpeed refuses such a file.
    """
    from preflight.formats.json_marks import read_json

    _refuse_long(text, path)
    return read_json(text, path, duplicates)


def parse_json(text: str, path: str) -> Any:
    """Return the value of a JSON text without marks; raise BadInput with the line that breaks it."""
    _refuse_long(text, path)
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise BadInput.one(f"not readable as JSON: {error.msg}", at(path, error.lineno)) from error
    except RecursionError as error:
        raise BadInput.one("is nested too deeply", path) from error
    except ValueError as error:  # Python converts no number of more than 4,300 digits
        raise BadInput.one(f"not readable as JSON: {error}", path) from error


def _refuse_long(text: str, path: str) -> None:
    if len(text) > LONGEST_TEXT:
        raise BadInput.one(f"has more than {LONGEST_TEXT:,} characters", path)


def read_data_file(path: str) -> Document:
    """Read a file that a person wrote for preflight (plan, runs, policy), in which no key may be given twice."""
    text = read_text_file(path)
    is_json = path.endswith(".json")
    document = load_json(text, path) if is_json else load_yaml(text, path, duplicates="error")
    raise_if_any(document.problems)
    return document


def read_text_file(path: str) -> str:
    """Return a file's text, or as much as no reader takes; raise BadInput where there is none."""
    try:
        with open(path, encoding="utf-8") as file:
            return file.read(LONGEST_TEXT + 1)
    except OSError as error:
        raise BadInput.one(f"cannot be read: {error.strerror}", path) from error
    except UnicodeDecodeError as error:
        raise BadInput.one("is not UTF-8 text", path) from error


def read_document(
    command: LaunchCommand, path: str, kind: str | None = None, stated_at: str = ""
) -> Document:
    """Read and load a file of the launch; `kind` None means JSON for `.json` and YAML for the rest.

    `stated_at` names the flag or key that points to the file, for the error where it cannot be read.
    """
    try:
        text = command.read_text(path)
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise BadInput.one(
            f"{path} is not UTF-8 text: byte 0x{error.object[error.start]:02x}",
            at(path, line),
            "save the file as UTF-8",
        ) from error
    except IsADirectoryError as error:
        raise BadInput.one(f"{path} is a folder, not a file", stated_at or path) from error
    except FileNotFoundError as error:
        raise BadInput.one(
            f"there is no file {path}",
            stated_at or path,
            f"looked for {command.resolve(path)}: relative paths start at the folder of the launch",
        ) from error
    except OSError as error:
        raise BadInput.one(f"cannot read {path}: {error.strerror}", stated_at or path) from error
    if kind is None:
        kind = "json" if path.endswith(".json") else "yaml"
    return load_json(text, path) if kind == "json" else load_yaml(text, path)
