"""YAML and JSON files of a launch, loaded with marks; the reader that a text needs is imported when it is met."""

from __future__ import annotations

from preflight.errors import BadInput
from preflight.formats.document import Document, at
from preflight.launch import LaunchCommand


def load_yaml(text: str, path: str, duplicates: str = "warning") -> Document:
    """Load YAML as PyYAML's safe loader reads it, in one pass, with marks.

    Raises BadInput for a syntax error, an empty file and a top level that is not a mapping.
    """
    from preflight.formats.yaml_plain import read_plain_yaml

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

    return read_json(text, path, duplicates)


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
