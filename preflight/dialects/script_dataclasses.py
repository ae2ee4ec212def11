"""The dataclasses that a training script makes its HfArgumentParser or TrlParser of, as one OwnParser.

Source: hf_argparser.py of transformers 5.24.0 and trl/scripts/utils.py of TRL 1.16.0.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import TYPE_CHECKING

from preflight.dialects.own_parser import DROPPED, NOT_KNOWN, REFUSED, OwnParser
from preflight.dialects.script_parsers import DATACLASS_PARSERS, dataclass_types
from preflight.dialects.trainer_tables import fields_of_class

if TYPE_CHECKING:
    from preflight.dialects.script_facts import ScriptReader

LIBRARIES = ("transformers", "trl")
ADDING = ("add_argument", "add_subparsers", "add_argument_group")


def own_parser(reader: ScriptReader, path: str) -> OwnParser | None:
    """Return the one parser that a script makes of dataclasses; None where more is in it than can be read."""
    made = [found for found in reader.everywhere if found.name in DATACLASS_PARSERS]
    if len(made) != 1 or any(found.name in ADDING for found in reader.everywhere):
        return None
    names: set[str] = set()
    for node in dataclass_types(made[0].node, made[0].scope):
        fields = _fields(reader, node, made[0].scope.path, ())
        if fields is None:
            return None
        names |= fields
    if not names:
        return None
    trees = reader.trees.values()
    has_aliases = any(_says_alias(node) for tree in trees for node in ast.walk(tree))
    tried = {
        id(inner)
        for node in ast.walk(reader.trees[path])
        if isinstance(node, ast.Try)
        for inner in ast.walk(node)
    }

    def fate(rule: Callable[[ast.Call], str], *methods: str) -> str:
        """Return what every call of these methods does, if they agree."""
        calls = [f.node for f in reader.everywhere if f.name in methods and f.scope.path == path]
        fates = {NOT_KNOWN if id(call) in tried else rule(call) for call in calls}
        return fates.pop() if len(fates) == 1 else NOT_KNOWN

    return OwnParser(
        frozenset(names),
        has_aliases,
        flags=fate(_of_flags, "parse_args_into_dataclasses", "parse_args_and_config"),
        config=fate(_of_config, "parse_args_and_config"),
        json_file=fate(_of_file, "parse_json_file"),
        yaml_file=fate(_of_file, "parse_yaml_file"),
    )


def _of_flags(call: ast.Call) -> str:
    says = _literals(call)
    takes_sys_argv = not call.args and says.keys() <= {
        "return_remaining_strings",
        "fail_with_unknown_args",
    }
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


def _fields(
    reader: ScriptReader, node: ast.expr, path: str, inside: tuple[str, ...]
) -> frozenset[str] | None:
    """Return the names that a dataclass gives a parser, those of its bases too; None where one of them is not read."""
    if isinstance(node, ast.Attribute):
        return fields_of_class(node.attr) if ast.unparse(node.value) in LIBRARIES else None
    if not isinstance(node, ast.Name):
        return None
    held = reader.classes.get(node.id)
    if held is None or node.id in inside:
        return fields_of_class(_library_name(reader.trees.get(path), node.id))
    cls, scope = held
    if scope.path != path and reader.imports.get(path, {}).get(node.id, ("",))[0] != scope.path:
        return None
    if any("dataclass" not in ast.unparse(decorator) for decorator in cls.decorator_list):
        return None
    names = set(_own_fields(cls)) if cls.decorator_list else set()
    for base in cls.bases:
        above = _fields(reader, base, scope.path, (*inside, node.id))
        if above is None:
            return None
        names |= above
    return frozenset(names)


def _own_fields(cls: ast.ClassDef) -> list[str]:
    """Return the fields of a dataclass that are arguments of its __init__."""
    return [
        node.target.id
        for node in cls.body
        if isinstance(node, ast.AnnAssign)
        and isinstance(node.target, ast.Name)
        and "ClassVar" not in ast.unparse(node.annotation)
        and not (
            isinstance(node.value, ast.Call) and _literals(node.value).get("init", True) is False
        )
    ]


def _library_name(tree: ast.Module | None, local: str) -> str:
    """Return what a name that a file imports from transformers or TRL is called there; empty where it does not."""
    for node in ast.walk(tree) if tree is not None else ():
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in LIBRARIES:
            for alias in node.names:
                if local == (alias.asname or alias.name) and not node.level:
                    return alias.name
    return ""
