"""YAML and JSON files, of a launch or for preflight itself, loaded with marks; the reader that a text needs is imported when it is met."""

from __future__ import annotations

import json
import os
from typing import Any

from preflight.errors import BadInput, raise_if_any
from preflight.files import LONGEST_BYTES, read_text
from preflight.formats.document import Document, at
from preflight.formats.missing import not_here
from preflight.launch import LaunchCommand
from preflight.lazy_pattern import lazy_pattern
from preflight.near_names import nearest_file_fix

LONG_NUMBER = lazy_pattern(r"\d{300}")
"""No float holds such a number, and Python reads none of 4,300 digits."""


def load_yaml(text: str, path: str, duplicates: str = "warning") -> Document:
    """Load YAML as PyYAML's safe loader reads it, in one pass, with marks.

    Raises BadInput for a syntax error, an empty file and a top level that is not a mapping.
    """
    from preflight.formats.yaml_plain import read_plain_yaml

    refuse_long(text, path)
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

    refuse_long(text, path)
    return read_json(text, path, duplicates)


def parse_json(text: str, path: str) -> Any:
    """Return the value of a JSON text without marks; raise BadInput with the line that breaks it."""
    refuse_long(text, path)
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise BadInput.one(f"not readable as JSON: {error.msg}", at(path, error.lineno)) from error
    except RecursionError as error:
        raise BadInput.of(path, "is nested too deeply") from error
    except ValueError as error:  # Python converts no number of more than 4,300 digits
        raise BadInput.one(f"not readable as JSON: {error}", path) from error


def refuse_long(text: str, path: str) -> None:
    """Raise BadInput for a text, or for a number in it, that is longer than anything that means something."""
    if len(text) > LONGEST_BYTES:
        raise BadInput.of(path, f"has more than {LONGEST_BYTES:,} characters")
    digits = LONG_NUMBER.search(text)
    if digits is not None:
        line = text.count("\n", 0, digits.start()) + 1
        raise BadInput.of(at(path, line), "has a number of 300 digits or more")


def read_data_file(path: str) -> Document:
    """Read a file that a person wrote for preflight (plan, runs, policy), in which no key may be given twice."""
    text = read_text_file(path)
    is_json = path.endswith(".json")
    document = load_json(text, path) if is_json else load_yaml(text, path, duplicates="error")
    raise_if_any(document.problems)
    return document


def read_text_file(path: str) -> str:
    """Return a file's text; raise BadInput where there is none, or more than any reader takes."""
    try:
        return read_text(path)
    except FileNotFoundError as error:
        fix = nearest_file_fix(path, os.path.abspath(path), "this folder")
        raise BadInput.one(f"there is no file {path}", path, fix) from error
    except OSError as error:
        raise BadInput.of(path, f"cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise BadInput.of(path, "is not UTF-8 text") from error


def read_document(
    command: LaunchCommand, path: str, kind: str | None = None, stated_at: str = ""
) -> Document:
    """Read and load a file of the launch; `kind` None means JSON for `.json` and YAML for the rest.

    `stated_at` names the flag or key that points to the file, for the error where it cannot be read.
    """
    text = launch_text(command, path, stated_at)
    if kind is None:
        kind = "json" if path.endswith(".json") else "yaml"
    return load_json(text, path) if kind == "json" else load_yaml(text, path)


def launch_text(command: LaunchCommand, path: str, stated_at: str = "", id: str = "") -> str:
    """Return the text of a file of the launch; raise BadInput, under a finding's id, where it cannot be read."""
    try:
        return command.read_text(path)
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise BadInput.one(
            f"{path} is not UTF-8 text: byte 0x{error.object[error.start]:02x}",
            at(path, line),
            "save the file as UTF-8",
            id,
        ) from error
    except IsADirectoryError as error:
        raise BadInput.one(f"{path} is a folder, not a file", stated_at or path, "", id) from error
    except FileNotFoundError as error:
        absent = not_here(command, path, stated_at or path)
        if absent is not None:
            raise BadInput(absent) from error
        raise BadInput.one(
            f"there is no file {path}",
            stated_at or path,
            nearest_file_fix(path, command.resolve(path)),
            id,
        ) from error
    except OSError as error:
        message = f"cannot read {path}: {error.strerror}"
        raise BadInput.one(message, stated_at or path, "", id) from error
