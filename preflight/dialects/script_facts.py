"""What a training script says about itself: the arguments of the calls that decide memory, read and not run.

`TrainingArguments(...)`, `LoraConfig(...)`, `BitsAndBytesConfig(...)`, `from_pretrained(...)`, `Accelerator(...)`
and what plain loops do. A call inside an `if` whose condition cannot be known is not read.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Iterable, Iterator
from dataclasses import field
from typing import Any

from preflight.dialects.own_parser import OwnParser
from preflight.dialects.script_parsers import (
    DATACLASS_PARSERS,
    TRAINER_BASES,
    FlagOf,
    argparse_names,
    command_parameters,
    dataclass_names,
    dataclass_types,
    defaults_of,
    is_command,
    is_trainer_class,
)
from preflight.dialects.script_scope import (
    UNKNOWN,
    Known,
    Parsed,
    Scope,
    absolute,
    changed_attributes,
    scope_of,
    walk_block,
)
from preflight.dialects.script_values import Evaluator
from preflight.dialects.settings import Place
from preflight.launch import LaunchCommand
from preflight.values import dataclass

MAX_IMPORTED_FILES = 12


@dataclass(frozen=True)
class CallFound:
    """A call of interest with the scope that it stands in."""

    name: str
    node: ast.Call
    scope: Scope


@dataclass
class ScriptFacts:
    """Argument name (the Trainer's, TRL's ModelConfig's) -> value; and what was seen and could not be read."""

    arguments: dict[str, Known] = field(default_factory=dict)
    unread: dict[str, Place] = field(default_factory=dict)
    """Argument -> where it is set to something that cannot be known without running the script."""
    seen: dict[str, Place] = field(default_factory=dict)
    """trainer_arguments, lora, quantization, model, accelerator, fsdp_plugin, deepspeed_plugin -> the call."""
    parser: OwnParser | None = None
    device_map: Known | None = None
    fsdp_plugin: dict[str, Known] = field(default_factory=dict)

    def put(self, name: str, known: Known) -> None:
        """Record an argument; what is not known is noted as such."""
        if known.value is UNKNOWN:
            self.arguments.pop(name, None)
            self.unread.setdefault(name, known.place)
        else:
            self.arguments[name] = known
            self.unread.pop(name, None)


class ScriptReader:
    """One script with the files of the repository that it imports, one level deep."""

    def __init__(self, command: LaunchCommand, path: str, text: str, flag_of: FlagOf) -> None:
        self.command = command
        self.flag_of = flag_of
        self.evaluator = Evaluator(command, self._imported, self._parsed)
        self.modules: dict[str, Scope] = {}
        self.functions: dict[str, list[tuple[ast.FunctionDef, Scope]]] = {}
        self.classes: dict[str, tuple[ast.ClassDef, Scope]] = {}
        self.imports: dict[str, dict[str, tuple[str, str]]] = {}
        self.everywhere: list[CallFound] = []
        """Every call, of branches that are not taken too: what declares the command line."""
        self.calls: list[CallFound] = []
        """The calls that surely run."""
        self.unsure: list[CallFound] = []
        """The calls that stand in a branch whose condition is not known."""
        self.statements: list[tuple[ast.Assign, Scope]] = []
        """The assignments that surely run."""
        self.trees: dict[str, ast.Module] = {}
        self._blocks: list[tuple[list[ast.stmt], Scope]] = []
        self._commands: list[tuple[ast.FunctionDef, Scope, Scope]] = []
        self._namespace: Parsed | None = None
        self._returning: set[str] = set()
        self._load(path, ast.parse(text), depth=0)
        self.evaluator.changed_attributes = changed_attributes(self.trees.values())
        for function, scope, outer in self._commands:
            scope.parameters.update(command_parameters(function, outer, self.evaluator, flag_of))
        self._bind_parameters()
        for body, scope in self._blocks:
            self._read_block(body, scope)

    # Loading

    def _load(self, path: str, tree: ast.Module, depth: int) -> None:
        self.trees[path] = tree
        module, functions = scope_of(tree.body, path)
        self.modules[path] = module
        self.imports[path] = {}
        for node in ast.walk(tree):
            if isinstance(node, (ast.Import, ast.ImportFrom)) and depth == 0:
                self._import(path, node)
        unparsed = [
            ast.unparse(node)
            for node in ast.walk(tree)
            if isinstance(node, ast.Call)
            and ast.unparse(node.func) in ("fire.Fire", "Fire", "typer.run")
        ]
        self._add_block(tree.body, module)
        self._add_functions(functions, module, unparsed)
        for node in tree.body:
            if isinstance(node, ast.ClassDef):
                self.classes[node.name] = (node, module)
                methods = [item for item in node.body if isinstance(item, ast.FunctionDef)]
                self._add_functions(methods, module, [])

    def _add_block(self, body: list[ast.stmt], scope: Scope) -> None:
        self._blocks.append((body, scope))
        for node in walk_block(body):
            if isinstance(node, ast.Call):
                self.everywhere.append(CallFound(_last_name(node.func), node, scope))

    def _add_functions(
        self, functions: Iterable[ast.FunctionDef], outer: Scope, entry_calls: list[str]
    ) -> None:
        for function in functions:
            scope, inner = scope_of(function.body, outer.path, outer)
            scope.unclear.update(argument.arg for argument in _all_arguments(function))
            if is_command(function, entry_calls):
                self._commands.append((function, scope, outer))
            self.functions.setdefault(function.name, []).append((function, scope))
            self._add_block(function.body, scope)
            self._add_functions(inner, scope, [])

    def _read_block(self, body: list[ast.stmt], scope: Scope) -> None:
        for node, is_sure in _reachable(body, scope, self.evaluator):
            if isinstance(node, ast.Call):
                held = self.calls if is_sure else self.unsure
                held.append(CallFound(_last_name(node.func), node, scope))
            elif isinstance(node, ast.Assign) and is_sure:
                self.statements.append((node, scope))

    def _import(self, path: str, node: ast.Import | ast.ImportFrom) -> None:
        if isinstance(node, ast.Import):
            targets = [(alias.name, alias.asname or alias.name, "") for alias in node.names]
        else:
            module = "." * node.level + (node.module or "")
            targets = [(module, alias.asname or alias.name, alias.name) for alias in node.names]
        for module, local, name in targets:
            found = self._file_of(path, module)
            if found is None:
                continue
            self.imports[path][local] = (found, name)
            if found in self.modules or len(self.modules) > MAX_IMPORTED_FILES:
                continue
            try:
                tree = ast.parse(self.command.read_text(found))
            except (OSError, UnicodeDecodeError, SyntaxError, ValueError, RecursionError):
                continue
            self._load(found, tree, depth=1)

    def _file_of(self, path: str, module: str) -> str | None:
        folder = os.path.dirname(path)
        level = len(module) - len(module.lstrip("."))
        for _ in range(level - 1):
            folder = os.path.join(folder, "..")
        folders = [folder] if level else [folder, ""]
        for base in folders:
            for candidate in absolute(base, module.lstrip(".")):
                if self.command.exists(candidate):
                    return os.path.normpath(candidate)
        return None

    # What names and calls mean

    def _imported(self, path: str, name: str) -> Known | Parsed | None:
        local, _, attribute = name.partition(".")
        found = self.imports.get(path, {}).get(local)
        if found is None:
            return None
        module = self.modules.get(found[0])
        wanted = attribute or found[1]
        if module is None or not wanted:
            return None
        value = self.evaluator.name(wanted, module)
        return value if isinstance(value, Known) else None

    def _parsed(self, node: ast.Call, scope: Scope) -> Any:
        name = _last_name(node.func)
        if name in ("parse_args", "parse_known_args"):
            if self._namespace is None:
                self._namespace = Parsed({})  # a default that parses again ends here
                adding = [
                    (found.node, found.scope)
                    for found in self.everywhere
                    if found.name == "add_argument"
                ]
                changing = [
                    (found.node, found.scope)
                    for found in self.everywhere
                    if found.name == "set_defaults"
                ]
                self._namespace = argparse_names(adding, self.evaluator, self.flag_of, changing)
            if self._namespace.names:
                parsed = self._namespace
                return (parsed, []) if name == "parse_known_args" else parsed
        if name in ("parse_args_into_dataclasses", "parse_args_and_config"):
            return self._dataclasses(scope)
        if isinstance(node.func, ast.Name) and node.func.id in self.functions:
            return self._returned(node.func.id)
        imported = self.imports.get(scope.path, {}).get(name)
        if isinstance(node.func, ast.Name) and imported and imported[1] in self.functions:
            return self._returned(imported[1])
        return None

    def _returned(self, name: str) -> Any:
        """Return what a function of the script gives back, where every `return` agrees on parsed arguments."""
        function, scope = self.functions[name][0]
        returns = [
            node.value
            for node in walk_block(function.body)
            if isinstance(node, ast.Return) and node.value is not None
        ]
        if len(returns) != 1:
            return None
        if name in self._returning:
            return None
        self._returning.add(name)
        value = self.evaluator.value(returns[0], scope)
        self._returning.discard(name)
        return value if isinstance(value, (Parsed, int, float, str, dict)) else None

    def _dataclasses(self, scope: Scope) -> Any:
        made = [f for f in self.everywhere if f.name in DATACLASS_PARSERS]
        classes = dataclass_types(made[0].node, made[0].scope) if made else []
        return tuple(self._dataclass(each) for each in classes) or None

    def _dataclass(self, node: ast.expr) -> Parsed:
        name = _last_name(node)
        if name in self.classes:
            cls, scope = self.classes[name]
            return dataclass_names(cls, scope, self.evaluator, self.flag_of)
        return Parsed({})

    # Reading

    def _bind_parameters(self) -> None:
        """Give every function that is called once the values of its arguments."""
        sites: dict[str, list[CallFound]] = {}
        for found in self.everywhere:
            if isinstance(found.node.func, ast.Name):
                sites.setdefault(found.node.func.id, []).append(found)
        for name, definitions in self.functions.items():
            if len(definitions) != 1 or len(sites.get(name, ())) != 1:
                continue
            function, scope = definitions[0]
            if scope.parameters:
                continue
            site = sites[name][0]
            arguments = [argument.arg for argument in function.args.args]
            known = {*arguments, *(argument.arg for argument in function.args.kwonlyargs)}
            for argument, node in zip(arguments, site.node.args, strict=False):
                if not isinstance(node, ast.Starred):
                    scope.parameters[argument] = self.evaluator.evaluate(node, site.scope)
            for keyword in site.node.keywords:
                if keyword.arg in known:
                    value = self.evaluator.evaluate(keyword.value, site.scope)
                    scope.parameters[keyword.arg or ""] = value
            is_open = any(isinstance(node, ast.Starred) for node in site.node.args) or any(
                keyword.arg is None for keyword in site.node.keywords
            )
            for parameter, default in () if is_open else defaults_of(function):
                if parameter.arg not in scope.parameters and default is not None:
                    outer = scope.outer or scope
                    scope.parameters[parameter.arg] = self.evaluator.evaluate(default, outer)

    def keywords(self, found: CallFound) -> tuple[dict[str, Known], bool]:
        """Return the keyword arguments of a call, and whether a `**` that cannot be read may add others."""
        values: dict[str, Known] = {}
        is_open = False
        for keyword in found.node.keywords:
            known = self.evaluator.evaluate(keyword.value, found.scope)
            if keyword.arg is not None:
                place = known.place
                if place.kind == "script" and not known.flag:
                    place = Place("script", found.scope.path, keyword.arg, keyword.value.lineno)
                values[keyword.arg] = Known(known.value, place, known.flag)
            elif isinstance(known.value, dict):
                for name, value in known.value.items():
                    place = Place("script", found.scope.path, str(name), keyword.value.lineno)
                    # What vars(args) holds knows its own place and flag.
                    values[str(name)] = value if isinstance(value, Known) else Known(value, place)
            else:
                is_open = True
        return values, is_open

    def named(self, *names: str) -> list[CallFound]:
        """Return the calls of these names, in order."""
        return [found for found in self.calls if found.name in names]

    def maybe(self, *names: str) -> list[CallFound]:
        """Return the calls of these names that may run or not, in order."""
        return [found for found in self.unsure if found.name in names]

    def place(self, found: CallFound) -> Place:
        """Return where a call stands."""
        return Place("script", found.scope.path, found.name, found.node.lineno)

    def trainer_defaults(self) -> Iterator[tuple[str, Known]]:
        """Yield the fields that a subclass of TrainingArguments adds or gives another default."""
        for cls, scope in self.classes.values():
            if is_trainer_class(cls):
                yield from dataclass_names(cls, scope, self.evaluator, self.flag_of).names.items()

    def trainer_calls(self) -> list[CallFound]:
        """Return the calls that make the Trainer's arguments."""
        names = self._trainer_names()
        return [found for found in self.calls if found.name in names]

    def unsure_trainer_calls(self) -> list[CallFound]:
        """Return the calls that may make the Trainer's arguments, if a condition holds."""
        names = self._trainer_names()
        return [found for found in self.unsure if found.name in names]

    def _trainer_names(self) -> set[str]:
        own = {name for name, (cls, _) in self.classes.items() if is_trainer_class(cls)}
        return {*TRAINER_BASES, *own}


def _all_arguments(function: ast.FunctionDef) -> list[ast.arg]:
    arguments = function.args
    extra = [a for a in (arguments.vararg, arguments.kwarg) if a is not None]
    return [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, *extra]


def _last_name(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def _reachable(
    body: list[ast.stmt], scope: Scope, evaluator: Evaluator
) -> Iterator[tuple[ast.AST, bool]]:
    """Yield the nodes of a block, and whether they surely run; branches not taken are left out."""
    waiting: list[tuple[ast.AST, bool]] = [(node, True) for node in reversed(body)]
    while waiting:
        node, is_sure = waiting.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)):
            continue
        if isinstance(node, ast.If) and not _is_main_guard(node.test):
            waiting.append((node.test, is_sure))
            test = _constant_test(node.test, scope, evaluator)
            for branch, taken in ((node.orelse, not test), (node.body, test)):
                if test is UNKNOWN:
                    waiting.extend((each, False) for each in reversed(branch))
                elif taken:
                    waiting.extend((each, is_sure) for each in reversed(branch))
            continue
        if isinstance(node, ast.Try):
            parts = [*node.body, *node.orelse, *node.finalbody]
            waiting.extend((each, is_sure) for each in reversed(parts))
            continue
        yield node, is_sure
        waiting.extend((child, is_sure) for child in reversed(list(ast.iter_child_nodes(node))))


def _constant_test(node: ast.expr, scope: Scope, evaluator: Evaluator) -> Any:
    value = evaluator.value(node, scope)
    return UNKNOWN if value is UNKNOWN else bool(value)


def _is_main_guard(node: ast.expr) -> bool:
    return "__name__" in ast.unparse(node)
