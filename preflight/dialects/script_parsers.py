"""The command line interface that a training script declares: argparse, dataclasses, typer, click, fire.

Gives for every argument the value that this launch has it at: the flag's, else its default.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from preflight.dialects.script_scope import UNKNOWN, Known, Parsed, Scope
from preflight.dialects.script_values import Evaluator
from preflight.dialects.settings import Place, Setting

TRAINER_BASES = (
    "TrainingArguments",
    "Seq2SeqTrainingArguments",
    "SFTConfig",
    "DPOConfig",
    "GRPOConfig",
    "KTOConfig",
    "RewardConfig",
    "RLOOConfig",
    "DistillationConfig",
)
"""Classes whose fields are the Trainer's arguments."""

DATACLASS_PARSERS = ("HfArgumentParser", "TrlParser")

SWITCH = "?"
"""Ends the name of a flag that takes no value."""

FlagOf = Callable[[Iterable[str]], "Setting | None"]
"""Names of one argument, underscored -> what the command line says, if it does."""


def argparse_names(
    calls: Iterable[tuple[ast.Call, Scope]],
    evaluator: Evaluator,
    flag_of: FlagOf,
    set_defaults: Iterable[tuple[ast.Call, Scope]] = (),
) -> Parsed:
    """Return the namespace of every `add_argument` of the script together."""
    names: dict[str, Known] = {}
    other_defaults = {
        keyword.arg: (keyword.value, scope)
        for call, scope in set_defaults
        for keyword in call.keywords
    }
    for call, scope in calls:
        options = [evaluator.value(item, scope) for item in call.args]
        words = [option for option in options if isinstance(option, str)]
        if not words or len(words) != len(call.args):
            continue
        keywords = {k.arg: k.value for k in call.keywords if k.arg is not None}
        long = [word for word in words if word.startswith("--")] or words
        spelled = long[0].lstrip("-").replace("-", "_")
        dest = evaluator.value(keywords["dest"], scope) if "dest" in keywords else spelled
        if not isinstance(dest, str):
            continue
        flags = [word.lstrip("-").replace("-", "_") for word in words]
        place = Place("script", scope.path, dest, call.lineno)
        given = flag_of(flags)
        action = evaluator.value(keywords["action"], scope) if "action" in keywords else "store"
        convert = _converter(keywords.get("type"))
        if given is not None:
            value = given.value
            if action in ("store_true", "store_false"):
                value = action == "store_true"
            elif isinstance(value, str):
                value = convert(value)
            names[dest] = Known(value, given.place, spelled)
            continue
        default: Any
        if None in other_defaults:  # set_defaults(**something)
            default = UNKNOWN
        elif dest in other_defaults:
            default = evaluator.value(*other_defaults[dest])
        elif "default" in keywords:
            default = evaluator.value(keywords["default"], scope)
            if isinstance(default, str):
                default = convert(default)
        else:
            default = {"store_true": False, "store_false": True}.get(str(action))
        flag = {"store": spelled, "store_true": f"{spelled}{SWITCH}"}.get(str(action), "")
        names[dest] = Known(default, place, flag)
    return Parsed(names)


def _converter(node: ast.expr | None) -> Callable[[str], Any]:
    name = ast.unparse(node) if node is not None else "str"
    if name not in ("int", "float", "str"):
        return lambda text: UNKNOWN if node is not None else text
    cast = {"int": int, "float": float, "str": str}[name]

    def convert(text: str) -> Any:
        try:
            return cast(text)
        except ValueError:
            return UNKNOWN

    return convert


def dataclass_types(made: ast.Call, scope: Scope) -> list[ast.expr]:
    """Return the classes that HfArgumentParser or TrlParser is made of, as written; none where that is not a list."""
    node = made.args[0] if made.args else None
    for keyword in made.keywords:
        if keyword.arg == "dataclass_types":
            node = keyword.value
    if isinstance(node, ast.Name) and len(scope.assigned.get(node.id, ())) == 1:
        node = scope.assigned[node.id][0]
    if node is None:
        return []
    return list(node.elts) if isinstance(node, (ast.Tuple, ast.List)) else [node]


def dataclass_names(
    cls: ast.ClassDef, scope: Scope, evaluator: Evaluator, flag_of: FlagOf
) -> Parsed:
    """Return the fields of one dataclass as HfArgumentParser fills them."""
    names: dict[str, Known] = {}
    for node in cls.body:
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
            continue
        name = node.target.id
        given = flag_of([name])
        if given is not None:
            names[name] = Known(_typed(given.value, node.annotation), given.place, name)
        elif node.value is not None:
            default = _field_default(node.value)
            value = UNKNOWN if default is None else evaluator.value(default, scope)
            names[name] = Known(value, Place("script", scope.path, name, node.lineno), name)
    return Parsed(names)


def _field_default(node: ast.expr) -> ast.expr | None:
    if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] == "field":
        for keyword in node.keywords:
            if keyword.arg == "default":
                return keyword.value
            if keyword.arg == "default_factory" and isinstance(keyword.value, ast.Lambda):
                return keyword.value.body
        return None
    return node


def _typed(value: Any, annotation: ast.expr | None) -> Any:
    """Convert a flag's text as the field's type says."""
    if not isinstance(value, str) or annotation is None:
        return value
    words = ast.unparse(annotation).replace("'", "").replace('"', "")
    for name, cast in (("int", int), ("float", float)):
        if words in (name, f"Optional[{name}]", f"{name} | None"):
            try:
                return cast(value)
            except ValueError:
                return UNKNOWN
    if words in ("bool", "Optional[bool]", "bool | None"):
        return {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}.get(
            value.lower(), UNKNOWN
        )
    return value


def is_trainer_class(cls: ast.ClassDef) -> bool:
    """Tell whether a class is TrainingArguments with fields added."""
    return any(ast.unparse(base).rpartition(".")[2] in TRAINER_BASES for base in cls.bases)


def command_parameters(
    function: ast.FunctionDef, scope: Scope, evaluator: Evaluator, flag_of: FlagOf
) -> dict[str, Known]:
    """Return the parameters of a function that typer, click or fire calls from the command line."""
    options = _click_options(function, scope, evaluator)
    values: dict[str, Known] = {}
    for argument, default in defaults_of(function):
        flag, stated = options.get(argument.arg, (argument.arg, default))
        given = flag_of([flag, argument.arg])
        place = Place("script", scope.path, argument.arg, argument.lineno)
        if given is not None:
            values[argument.arg] = Known(
                _guessed(given.value, argument.annotation), given.place, flag
            )
            continue
        node = _typer_default(stated)
        value = UNKNOWN if node is None else evaluator.value(node, scope)
        values[argument.arg] = Known(value, place, flag)
    return values


def defaults_of(function: ast.FunctionDef) -> list[tuple[ast.arg, ast.expr | None]]:
    """Return the parameters of a function, each with its default or None."""
    arguments = function.args
    positional = [*arguments.posonlyargs, *arguments.args]
    missing = len(positional) - len(arguments.defaults)
    pairs: list[tuple[ast.arg, ast.expr | None]] = list(
        zip(positional, [None] * missing + list(arguments.defaults), strict=True)
    )
    return pairs + list(zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True))


def _guessed(value: Any, annotation: ast.expr | None) -> Any:
    if annotation is not None:
        return _typed(value, annotation)
    if isinstance(value, str):  # fire and click convert what looks like a number
        for cast in (int, float):
            try:
                return cast(value)
            except ValueError:
                continue
    return value


def _typer_default(node: ast.expr | None) -> ast.expr | None:
    if isinstance(node, ast.Call) and ast.unparse(node.func) in ("typer.Option", "typer.Argument"):
        if node.args:
            return node.args[0]
        return next((k.value for k in node.keywords if k.arg == "default"), None)
    return node


def _click_options(
    function: ast.FunctionDef, scope: Scope, evaluator: Evaluator
) -> Mapping[str, tuple[str, ast.expr | None]]:
    options: dict[str, tuple[str, ast.expr | None]] = {}
    for node in function.decorator_list:
        if not isinstance(node, ast.Call) or ast.unparse(node.func) != "click.option":
            continue
        words = [evaluator.value(item, scope) for item in node.args]
        long = [w for w in words if isinstance(w, str) and w.startswith("--")]
        if long:
            name = long[0].lstrip("-").replace("-", "_")
            default = next((k.value for k in node.keywords if k.arg == "default"), None)
            options[name] = (name, default)
    return options


def is_command(function: ast.FunctionDef, calls: Iterable[str]) -> bool:
    """Tell whether typer, click or fire calls a function: by a decorator, or by `fire.Fire(main)`."""
    for node in function.decorator_list:
        name = ast.unparse(node.func if isinstance(node, ast.Call) else node)
        if name.rpartition(".")[2] == "command" or name == "click.option":
            return True
    wanted = {
        f"fire.Fire({function.name})",
        f"Fire({function.name})",
        f"typer.run({function.name})",
    }
    return any(call in wanted for call in calls)
