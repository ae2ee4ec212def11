"""A training script read for one command line: the calls that run, and what names and parsed arguments hold.

A call inside an `if` whose condition cannot be known is not read.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping

from preflight.launch import LaunchCommand
from preflight.launch_facts import Lines
from preflight.plan_choices import HF_TRAINERS
from preflight.scripts.argument_parsers import argparse_names
from preflight.scripts.blocks import DEFINITIONS, reachable
from preflight.scripts.commands import command_parameters, defaults_of
from preflight.scripts.dataclass_fields import (
    DATACLASS_PARSERS,
    TRAINER_BASES,
    bases,
    class_fields,
    class_values,
    dataclass_names,
    dataclass_types,
    given_names,
    is_closed,
    is_dataclass,
    is_trainer_class,
    with_set_on_self,
)
from preflight.scripts.files import CallFound, ScriptFiles, last_name
from preflight.scripts.reached import names_in
from preflight.scripts.scope import (
    UNKNOWN,
    FlagOf,
    Known,
    Parsed,
    Scope,
    changed_attributes,
    walk_block,
)
from preflight.scripts.values import Evaluator
from preflight.setting import Place


class ScriptReader(ScriptFiles):
    """One script with the files of the repository that it imports, read for one command line."""

    def __init__(self, command: LaunchCommand, path: str, text: str) -> None:
        super().__init__(command, path, text)
        self.flag_of: FlagOf = lambda _: None
        self.calls: list[CallFound] = []
        """The calls that surely run."""
        self.unsure: list[CallFound] = []
        """The calls that stand in a branch whose condition is not known."""
        self.statements: list[tuple[ast.Assign, Scope]] = []
        """The assignments that surely run."""
        self.unsure_statements: list[tuple[ast.Assign, Scope]] = []
        """Those that stand in a branch whose condition is not known."""
        self.untaken: list[Lines] = []
        """File, first and last line of the statements in branches that are not taken."""
        self._namespace: Parsed | None = None
        self._returns: dict[str, list[ast.expr]] = {}
        """Function -> what it returns, as written: a name may be called thousands of times."""
        self._returning: set[str] = set()
        self._values_of_classes: dict[str, Parsed] = {}
        self.evaluator = Evaluator(command, self._imported, self._parsed)
        self.evaluator.changed_attributes = changed_attributes(self.nodes)

    @property
    def _has_handbooks_parser(self) -> bool:
        return any(found.name == "H4ArgumentParser" for found in self.everywhere)

    def read(self, flag_of: FlagOf) -> None:
        """Find the calls and assignments that run, for a command line."""
        self.flag_of = flag_of
        self.evaluator.num_steps = 0
        self._values_of_classes.clear()
        for function, scope, outer in self.commands:
            scope.parameters.update(command_parameters(function, outer, self.evaluator, flag_of))
        self._bind_parameters()
        read = {
            id(scope): list(reachable(body, scope, self.evaluator)) for body, scope in self.blocks
        }
        modules = [id(scope) for _, scope in self.blocks if scope.outer is None]
        runs = self._run(modules, read)
        for _, scope in self.blocks:
            if id(scope) in runs:
                self._read_block(read[id(scope)], scope, runs[id(scope)])

    # What names and calls mean

    def _imported(self, path: str, name: str) -> Known | Parsed | None:
        local, _, attribute = name.partition(".")
        found = self.imports.get(path, {}).get(local)
        if found is None:
            return self._values(name, path)
        module = self.modules.get(found[0])
        wanted = attribute or found[1]
        if module is None or not wanted:
            return None
        held = self._values(wanted, found[0])
        if held is not None:
            return held
        value = self.evaluator.name(wanted, module)
        return value if isinstance(value, Known) else None

    def _parsed(self, node: ast.Call, scope: Scope) -> object:
        name = last_name(node.func)
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
        is_own_parse = name == "parse" and not node.args and self._has_handbooks_parser
        if name in ("parse_args_into_dataclasses", "parse_args_and_config") or is_own_parse:
            return self._dataclasses(scope)
        if isinstance(node.func, ast.Name) and self.class_of(name, scope.path) is not None:
            return self._made(node, scope)
        if isinstance(node.func, ast.Name) and node.func.id in self.functions:
            return self._returned(node.func.id)
        imported = self.imports.get(scope.path, {}).get(name)
        if isinstance(node.func, ast.Name) and imported and imported[1] in self.functions:
            return self._returned(imported[1])
        return None

    def _returned(self, name: str) -> object:
        """Return what a function of the script gives back, where every `return` agrees on parsed arguments."""
        function, scope = self.functions[name][0]
        if name not in self._returns:
            self._returns[name] = [
                node.value
                for node in walk_block(function.body)
                if isinstance(node, ast.Return) and node.value is not None
            ]
        returns = self._returns[name]
        if len(returns) != 1:
            return None
        if name in self._returning:
            return None
        self._returning.add(name)
        value = self.evaluator.value(returns[0], scope)
        self._returning.discard(name)
        return value if isinstance(value, (Parsed, int, float, str, dict)) else None

    def _dataclasses(self, scope: Scope) -> object:
        made = [f for f in self.everywhere if f.name in DATACLASS_PARSERS]
        classes = dataclass_types(made[0].node, made[0].scope) if made else []
        return tuple(self._dataclass(each, made[0].scope.path) for each in classes) or None

    def _dataclass(self, node: ast.expr, path: str) -> Parsed:
        held = self.class_of(last_name(node), path) if isinstance(node, ast.Name) else None
        if held is not None:
            return dataclass_names(*held, self.classes, self.evaluator, self.flag_of)
        return Parsed(dict(given_names(last_name(node), self.flag_of)))

    def _values(self, name: str, path: str) -> Parsed | None:
        """Return what a class of settings says without a command line: `CFG.max_length`."""
        held = self.class_of(name, path)
        if held is None or not is_closed(held[0], self.classes):
            return None
        key = f"{held[1].path}:{held[0].name}"
        if key not in self._values_of_classes:
            self._values_of_classes[key] = Parsed({})  # a default that names its class ends here
            self._values_of_classes[key] = class_values(*held, self.classes, self.evaluator)
        return self._values_of_classes[key]

    def _made(self, node: ast.Call, scope: Scope) -> Parsed | None:
        """Return what `Config(length=512)` holds, for a class that takes what it declares and nothing else."""
        name = last_name(node.func)
        held, values = self.class_of(name, scope.path), self._values(name, scope.path)
        if held is None or values is None:
            return None
        cls, outer = held
        order = list(class_fields(cls, outer, self.classes)) if is_dataclass(cls) else []
        has_own = any(isinstance(n, ast.FunctionDef) and n.name == "__init__" for n in cls.body)
        told = [*zip(order, node.args, strict=False)]
        told += [(keyword.arg or "", keyword.value) for keyword in node.keywords]
        if has_own or len(node.args) > len(order) or any(each not in order for each, _ in told):
            return None
        names = dict(values.names)
        names.update((each, self.evaluator.evaluate(said, scope)) for each, said in told)
        return Parsed(with_set_on_self(names, cls, outer, self.classes))

    # Reading

    def _run(
        self, modules: list[int], read: Mapping[int, list[tuple[ast.AST, bool | None]]]
    ) -> dict[int, bool]:
        """Return the scopes of the blocks that run -> whether they surely do.

        What only a branch names that may not be taken may not run; what only branches name that are not taken does not.
        """
        runs = dict.fromkeys(modules, True)
        named: dict[str, bool] = {}
        waiting = [each for each in self._named if id(each.scope) in read]
        new = list(modules)
        while new:
            for scope in new:
                for node, is_sure in read[scope]:
                    for name in () if is_sure is None else _names_of(node):
                        for each in (name, self.renamed.get(name, name)):
                            named[each] = named.get(each, False) or bool(is_sure and runs[scope])
            new = []
            for function in waiting:
                key, said = id(function.scope), [named[n] for n in function.names if n in named]
                surely = any(said) or not function.names
                if (said or surely) and runs.get(key) is not surely and not runs.get(key):
                    runs[key] = surely
                    new.append(key)
        return runs

    def _read_block(
        self, nodes: list[tuple[ast.AST, bool | None]], scope: Scope, runs_surely: bool
    ) -> None:
        for node, may_run in nodes:
            is_sure = runs_surely and may_run is True
            if may_run is None:
                if isinstance(node, ast.stmt):
                    lines = (scope.path, node.lineno, node.end_lineno or node.lineno)
                    self.untaken.append(lines)
            elif isinstance(node, ast.Call):
                held = self.calls if is_sure else self.unsure
                held.append(CallFound(last_name(node.func), node, scope))
            elif isinstance(node, ast.Assign):
                (self.statements if is_sure else self.unsure_statements).append((node, scope))

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
                if place.kind == "script" and not known.flag and not place.key:
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

    def arguments_from_elsewhere(self) -> Place | None:
        """Return where the Trainer's arguments are of a class of that name which is no library's, or is built on one."""
        used = [
            (node, found.scope.path)
            for found in self.everywhere
            if found.name in DATACLASS_PARSERS
            for node in dataclass_types(found.node, found.scope)
        ]
        for cls, scope in self.classes.values():
            if cls.name in TRAINER_BASES or is_trainer_class(cls, self.classes):
                used += [(base, scope.path) for base in cls.bases]
        for node, path in used:
            if isinstance(node, ast.Attribute):
                root = ast.unparse(node).partition(".")[0]
                module = self.libraries.get(path, {}).get(root, root).partition(".")[0]
                is_named = node.attr in TRAINER_BASES or re.search("Train|Config$", node.attr)
                if is_named and module not in HF_TRAINERS:
                    return Place("script", path, ast.unparse(node), node.lineno)
        return None

    def trainer_defaults(self) -> Iterator[tuple[str, Known]]:
        """Yield the fields that the subclasses of TrainingArguments in use add or give another default."""
        own = {
            name for name, (cls, _) in self.classes.items() if is_trainer_class(cls, self.classes)
        }
        parsed = [
            last_name(node)
            for found in self.everywhere
            if found.name in DATACLASS_PARSERS
            for node in dataclass_types(found.node, found.scope)
        ]
        above = {name for each in own for name, *_ in bases(self.classes[each][0], self.classes)}
        used = own & {*parsed, *(found.name for found in self.everywhere)} or own - above
        said: dict[str, Known] = {}
        for name in sorted(used):
            for argument, known in self._fields(name):
                other = said.setdefault(argument, known)
                if other.value != known.value:
                    said[argument] = Known(UNKNOWN, known.place)
        yield from said.items()

    def _fields(self, name: str) -> Iterable[tuple[str, Known]]:
        held = self.classes[name]
        return dataclass_names(*held, self.classes, self.evaluator, self.flag_of).names.items()

    def trainer_calls(self) -> list[CallFound]:
        """Return the calls that make the Trainer's arguments."""
        names = self.trainer_names()
        return [found for found in self.calls if found.name in names]

    def unsure_trainer_calls(self) -> list[CallFound]:
        """Return the calls that may make the Trainer's arguments, if a condition holds."""
        names = self.trainer_names()
        return [found for found in self.unsure if found.name in names]

    def trainer_names(self) -> set[str]:
        """Return the classes of the Trainer's arguments: the libraries', and the script's own on top of them."""
        own = {
            name for name, (cls, _) in self.classes.items() if is_trainer_class(cls, self.classes)
        }
        return {*TRAINER_BASES, *own}


def _names_of(node: ast.AST) -> Iterable[str]:
    """Return the names that a node itself uses; of a function or class those that its definition does."""
    if isinstance(node, ast.Name):
        return (node.id,)
    if isinstance(node, ast.Attribute):
        return (node.attr,)
    return names_in([node]) if isinstance(node, DEFINITIONS) else ()
