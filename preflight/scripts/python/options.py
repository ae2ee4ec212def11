"""The command line of a training script, from the dataclasses and the `add_argument` calls that make its parser.

Source: hf_argparser.py of transformers 5.24.0 and trl/scripts/utils.py of TRL 1.16.0.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from preflight.plan_choices import HF_TRAINERS
from preflight.scripts.arguments.trainer_tables import fields_of_class
from preflight.scripts.python.argument_parsers import added_arguments, options_of
from preflight.scripts.python.dataclass_fields import (
    Field,
    class_fields,
    dataclass_types,
    is_dataclass,
)
from preflight.scripts.python.field_types import field_type
from preflight.scripts.python.nodes import unparse, walk
from preflight.scripts.python.own_parser import (
    DROPPED,
    MANY,
    NONE,
    NOT_KNOWN,
    ONE,
    OPTIONAL,
    REFUSED,
    OwnOption,
    OwnParser,
)

if TYPE_CHECKING:
    from preflight.scripts.python.reader import ScriptReader

DEEPSPEED_OPTIONS = {
    "--deepspeed": OwnOption("deepspeed", NONE),
    "--deepspeed_config": OwnOption("deepspeed_config", ONE),
    "--deepscale": OwnOption("deepscale", NONE),
    "--deepscale_config": OwnOption("deepscale_config", ONE),
}
"""What deepspeed.add_config_arguments adds to a parser (deepspeed/__init__.py:613, 0.19.8): the first is a switch, where
TrainingArguments has an option of that name which takes a file."""
ADDING = ("add_argument", "add_argument_group", "add_mutually_exclusive_group")


def own_parser(reader: ScriptReader, path: str) -> OwnParser:
    """Return the options that a script declares, and every name that its parser takes where that can be read whole."""
    made = [found for found in reader.everywhere if found.name in reader.dataclass_parsers]
    plain = [found for found in reader.everywhere if found.name == "ArgumentParser"]
    adding = [f for f in reader.everywhere if f.name == "add_argument"]
    added = list(added_arguments([(f.node, f.scope) for f in adding], reader.evaluator))
    options: dict[str, OwnOption] = {}
    names: set[str] | None = set()
    for each in added:
        if each is None:
            names = None
            continue
        options.update(options_of(each, reader.evaluator))
        if names is not None:
            names.add(each.spelled)
    for found in made:
        types = dataclass_types(found.node, found.scope)
        if not types:
            names = None
        for node in types:
            fields = field_names(reader, node, found.scope.path)
            names = None if names is None or fields is None else names | fields
            options.update(_options_of_class(reader, node, found.scope.path))
    if any(found.name == "add_config_arguments" for found in reader.everywhere):
        options.update(DEEPSPEED_OPTIONS)
    adds_more = any(_adds_more(found.name, reader) for found in reader.everywhere)
    if len(made) + len(plain) != 1 or (made and added) or adds_more:
        names = None
    return OwnParser(
        options,
        names=frozenset(names) if names else None,
        parameters=frozenset(each.arg for held in reader.commands for each in held[0].args.args),
        has_aliases=any(_says_alias(node) for node in reader.nodes) if made else False,
        **_fates(reader, path),
    )


def _adds_more(name: str, reader: ScriptReader) -> bool:
    """Tell whether a function adds arguments that are not seen: deepspeed.add_config_arguments, subparsers."""
    if name in ADDING or name in reader.functions:
        return False
    return name == "add_subparsers" or ("add" in name and "arg" in name)


def _options_of_class(
    reader: ScriptReader, node: ast.expr, path: str
) -> Iterator[tuple[str, OwnOption]]:
    """Yield the options that the script's own fields of a dataclass give HfArgumentParser."""
    held = reader.class_of(node.id, path) if isinstance(node, ast.Name) else None
    for field in class_fields(*held, reader.classes).values() if held is not None else ():
        if not field.is_argument:
            continue
        takes, is_true = _takes(field, reader)
        for name in (field.name, field.name.replace("_", "-")):
            yield f"--{name}", OwnOption(field.name, takes)
            if is_true:
                yield f"--no_{name}", OwnOption(field.name, NONE, False)
                yield f"--no-{name}", OwnOption(field.name, NONE, False)


def _takes(field: Field, reader: ScriptReader) -> tuple[str, bool]:
    """Return how many words a field takes on the command line, and whether it is true unless told otherwise."""
    kind = field_type(field.annotation)
    if kind.is_list:
        return MANY, False
    if kind.name != "bool":
        return ONE, False
    default = None
    if field.default is not None:
        default = reader.evaluator.value(field.default, field.scope)
    is_plain = unparse(field.annotation).strip("'\"") == "bool"
    return (OPTIONAL if is_plain or default is not None else ONE), default is True


def _fates(reader: ScriptReader, path: str) -> dict[str, str]:
    """Return what the script's parser does with names that it does not have, by where they stand."""
    tried = {
        id(inner)
        for node in walk(reader.trees[path])
        if isinstance(node, ast.Try)
        for inner in walk(node)
    }

    def fate(rule: Callable[[ast.Call], str], *methods: str) -> str:
        """Return what every call of these methods does, if they agree."""
        calls = [f.node for f in reader.everywhere if f.name in methods and f.scope.path == path]
        fates = {NOT_KNOWN if id(call) in tried else rule(call) for call in calls}
        return fates.pop() if len(fates) == 1 else NOT_KNOWN

    return {
        "flags": fate(_of_flags, "parse_args_into_dataclasses", "parse_args_and_config"),
        "config": fate(_of_config, "parse_args_and_config"),
        "json_file": fate(_of_file, "parse_json_file"),
        "yaml_file": fate(_of_file, "parse_yaml_file"),
    }


def _of_flags(call: ast.Call) -> str:
    says = _literals(call)
    known = ("return_remaining_strings", "fail_with_unknown_args")
    takes_sys_argv = not call.args and all(name in known for name in says)
    returns_them = says.get("return_remaining_strings", False)
    return REFUSED if takes_sys_argv and returns_them is False else NOT_KNOWN


def _of_config(call: ast.Call) -> str:
    if _of_flags(call) == NOT_KNOWN:
        return NOT_KNOWN
    fails = _literals(call).get("fail_with_unknown_args", True)
    if not isinstance(fails, bool):
        return NOT_KNOWN
    return REFUSED if fails else DROPPED


def _of_file(call: ast.Call) -> str:
    extra = _literals(call).get("allow_extra_keys", False)
    if len(call.args) > 1 or not isinstance(extra, bool):
        return NOT_KNOWN
    return DROPPED if extra else REFUSED


def _literals(call: ast.Call) -> dict[str | None, object]:
    """Return the keywords of a call; what is no constant is its node."""
    return {
        keyword.arg: keyword.value.value
        if isinstance(keyword.value, ast.Constant)
        else keyword.value
        for keyword in call.keywords
    }


def _says_alias(node: ast.AST) -> bool:
    return "aliases" in (getattr(node, "arg", None), getattr(node, "value", None))


def field_names(
    reader: ScriptReader, node: ast.expr, path: str, inside: tuple[str, ...] = ()
) -> frozenset[str] | None:
    """Return the names that a dataclass gives a parser, those of its bases too; None where one of them is not read."""
    if isinstance(node, ast.Attribute):
        return fields_of_class(node.attr) if unparse(node.value) in HF_TRAINERS else None
    if not isinstance(node, ast.Name):
        return None
    held = reader.class_of(node.id, path)
    if held is None or node.id in inside:
        return fields_of_class(_library_name(reader.trees.get(path), node.id))
    cls, scope = held
    if cls.decorator_list and not is_dataclass(cls):
        return None
    fields = class_fields(cls, scope, reader.classes).values()
    names = {field.name for field in fields if field.is_argument}
    for base in cls.bases:
        above = field_names(reader, base, scope.path, (*inside, node.id))
        if above is None:
            return None
        names |= above
    return frozenset(names - {field.name for field in fields if not field.is_argument})


def _library_name(tree: ast.Module | None, local: str) -> str:
    """Return what a name that a file imports from transformers or TRL is called there; empty where it does not."""
    for node in walk(tree) if tree is not None else ():
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in HF_TRAINERS:
            for alias in node.names:
                if local == (alias.asname or alias.name) and not node.level:
                    return alias.name
    return ""
