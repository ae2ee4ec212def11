"""scripts/arguments/trainer_arguments.json: every argument of transformers' and TRL's own parsers, as installed here."""

from __future__ import annotations

import dataclasses
from typing import Any

from preflight.derive.tables.json_rows import in_rows
from preflight.derive.target import Files, Say

PATH = "preflight/scripts/arguments/trainer_arguments.json"

SCRIPTS = ("sft", "dpo", "grpo", "kto", "reward", "rloo", "distillation")
"""TRL's own training scripts, `trl.scripts.NAME`."""


def derive() -> dict[str, Any]:
    """Return the tables: TrainingArguments whole, what each TRL script has beside or instead of it, and names by class."""
    import importlib

    import transformers
    import trl

    training_arguments: Any = transformers.TrainingArguments
    arguments = parser_arguments(
        transformers.HfArgumentParser(training_arguments), training_arguments._VALID_DICT_FIELDS
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
        own = parser_arguments(parser, dict_fields)
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


def parser_arguments(parser: Any, dict_fields: Any) -> dict[str, list[Any]]:
    """Return argument -> kind, default and choices of an argparse parser; `dict_fields` take JSON."""
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


def files(say: Say) -> Files:
    """Yield the file of the installed releases."""
    yield PATH, in_rows(derive(), nested=("scripts",), flat=("versions",))
