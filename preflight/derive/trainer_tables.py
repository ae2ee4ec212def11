"""Writes preflight/scripts/trainer_arguments.json: every argument of transformers' and TRL's own parsers, as installed here.

Run by hand with `python -m preflight.derive.trainer_tables` when a new version of either
is supported; a test says when the file and the installed libraries differ.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

SCRIPTS = ("sft", "dpo", "grpo", "kto", "reward", "rloo", "distillation")
"""TRL's own training scripts, `trl.scripts.NAME`."""


def derive() -> dict[str, Any]:
    """Return the tables: TrainingArguments whole, what each TRL script has beside or instead of it, and names by class."""
    import importlib

    import transformers
    import trl

    training_arguments: Any = transformers.TrainingArguments
    arguments = _arguments(
        transformers.HfArgumentParser(training_arguments),
        training_arguments._VALID_DICT_FIELDS,
    )
    scripts = {}
    classes: set[Any] = {training_arguments, transformers.Seq2SeqTrainingArguments}
    for name in SCRIPTS:
        parser = importlib.import_module(f"trl.scripts.{name}").make_parser()
        dict_fields: set[str] = set()
        for cls in parser.dataclass_types:
            dict_fields.update(getattr(cls, "_VALID_DICT_FIELDS", ()))
            if cls.__module__ != f"trl.scripts.{name}":  # nobody else has a script's own class
                classes.add(cls)
        own = _arguments(parser, dict_fields)
        scripts[name] = {key: value for key, value in own.items() if arguments.get(key) != value}
        lost = set(arguments) - set(own)
        if lost:  # the file says "TrainingArguments and more"; that has to be true
            raise SystemExit(f"trl.scripts.{name} has no {', '.join(sorted(lost))}")
    return {
        "versions": {"transformers": transformers.__version__, "trl": trl.__version__},
        "TrainingArguments": arguments,
        "scripts": scripts,
        "trainer_classes": {
            cls.__name__: [name for name in _fields(cls) if name not in arguments]
            for cls in sorted(classes, key=lambda cls: cls.__name__)
            if issubclass(cls, training_arguments)
        },
        "other_classes": {
            cls.__name__: _fields(cls)
            for cls in sorted(classes, key=lambda cls: cls.__name__)
            if not issubclass(cls, training_arguments)
        },
    }


def _fields(cls: Any) -> list[str]:
    return [field.name for field in dataclasses.fields(cls) if field.init]


def _arguments(parser: Any, dict_fields: Any) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    # A default that is text is converted by the parser like a given value.
    defaults = vars(parser.parse_known_args([])[0])
    for action in parser._actions:
        if action.dest == "help" or action.nargs == 0:
            continue  # `--no_NAME` follows from a flag whose default is true
        default = defaults[action.dest]
        default = getattr(default, "value", default)
        entry: list[Any] = [_kind(action, action.dest in dict_fields), _plain(default)]
        if action.choices is not None:
            entry.append(list(action.choices))
        found[action.dest] = entry
    return found


def _kind(action: Any, is_dict: bool) -> str:
    if is_dict:
        return "dict"
    name = getattr(action.type, "__name__", "str")
    if name == "string_to_bool":
        return "flag" if action.nargs == "?" else "bool"
    if action.nargs == "+":
        return {"str": "list", "DebugOption": "list", "int": "list_int", "float": "list_float"}.get(
            name, "file_only"
        )
    if action.nargs == "?":
        return "optional_str"
    if name in ("int", "float", "str"):
        return name
    return "str" if action.choices is not None else "file_only"


def _plain(value: Any) -> Any:
    """Return a default as JSON holds it."""
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value if isinstance(value, (bool, int, float, str, type(None))) else str(value)


def main() -> None:
    """Write the file, one argument to a line so that a version's changes read well in a diff."""
    from preflight.scripts.trainer_tables import tables_path

    tables = derive()

    def lines(entries: dict[str, list[Any]], indent: str) -> str:
        return ",\n".join(
            f"{indent}{json.dumps(name)}: {json.dumps(entry)}" for name, entry in entries.items()
        )

    scripts = ",\n".join(
        f"  {json.dumps(name)}: {{\n{lines(entries, '   ')}\n  }}"
        for name, entries in tables["scripts"].items()
    )
    text = (
        f'{{\n "versions": {json.dumps(tables["versions"])},\n'
        f' "TrainingArguments": {{\n{lines(tables["TrainingArguments"], "  ")}\n }},\n'
        f' "scripts": {{\n{scripts}\n }},\n'
        f' "trainer_classes": {{\n{lines(tables["trainer_classes"], "  ")}\n }},\n'
        f' "other_classes": {{\n{lines(tables["other_classes"], "  ")}\n }}\n}}\n'
    )
    Path(tables_path()).write_text(text, encoding="utf-8")
    print(f"{tables_path()}: {len(text)} bytes")


if __name__ == "__main__":
    main()
