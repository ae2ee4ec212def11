"""The calls of a training script that run for one command line, and what they are given.

A call inside an `if` whose condition cannot be known is not read.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property

from preflight.launch import LaunchCommand
from preflight.scripts.python.attribute_changes import Read, left_unchanged, set_once
from preflight.scripts.python.bindings import bind_parameters, told_by
from preflight.scripts.python.blocks import DEFINITIONS, reachable
from preflight.scripts.python.commands import command_parameters
from preflight.scripts.python.files import CallFound
from preflight.scripts.python.handed_functions import handed_calls
from preflight.scripts.python.meanings import ScriptMeanings
from preflight.scripts.python.nodes import last_name
from preflight.scripts.python.reached import Meaning, Named, as_method, by_name, names_in
from preflight.scripts.python.scope import FlagOf, Known, Parsed, Scope
from preflight.setting import Place

MOST_LOOKS = 3
"""Times that a script's branches are looked at: what one look tells of attributes may decide another branch."""


class RunningCalls(ScriptMeanings):
    """One script with the files of the repository that it imports, and what of it runs for one command line."""

    def __init__(self, command: LaunchCommand, path: str, text: str) -> None:
        super().__init__(command, path, text)
        self.calls: list[CallFound] = []
        """The calls that surely run."""
        self.unsure: list[CallFound] = []
        """The calls that stand in a branch whose condition is not known."""
        self.statements: list[tuple[ast.Assign, Scope]] = []
        """The assignments that surely run."""
        self.unsure_statements: list[tuple[ast.Assign, Scope]] = []
        """Those that stand in a branch whose condition is not known."""
        self.untaken: list[tuple[str, ast.AST]] = []
        """File and statement, or expression, of branches of what runs that are not taken."""

    def read(self, flag_of: FlagOf) -> None:
        """Find the calls and assignments that run, for a command line."""
        self.flag_of = flag_of
        for found in (
            self.calls,
            self.unsure,
            self.statements,
            self.unsure_statements,
            self.untaken,
        ):
            found.clear()
        self.evaluator.changed_attributes, self.evaluator.set_once = self._changed, {}
        modules = [id(scope) for _, scope in self.blocks if scope.outer is None]
        for _ in range(MOST_LOOKS):
            read = self._look()
            runs = self._run(modules, read)
            if not self._learns(read, runs):
                break
        for _, scope in self.blocks:
            if id(scope) in runs:
                self._read_block(read[id(scope)], scope, runs[id(scope)])

    def _look(self) -> Read:
        """Return the nodes of every block, and whether they run, by what is known of attributes."""
        self.evaluator.num_steps = 0
        self.evaluator.forget()
        self.evaluator.not_told.clear()
        self.forget_classes()
        for _, scope in self.blocks:
            scope.parameters.clear()
        for function, scope, outer in self.commands:
            told = command_parameters(function, outer, self.evaluator, self.flag_of)
            scope.parameters.update(told)
        bind_parameters(self.defined, self._sites(), self.evaluator)
        return {
            id(scope): list(reachable(body, scope, self.evaluator)) for body, scope in self.blocks
        }

    def _learns(self, read: Read, runs: Mapping[int, bool]) -> bool:
        """Note which attributes no branch that may run sets, and which one statement sets that surely does; tell whether a
        condition asked for one of them."""
        changed = Counter(self._changed) - Counter(left_unchanged(read, self.passing))
        once = set_once(changed, self.blocks, read, runs)
        before = self.evaluator.changed_attributes, self.evaluator.set_once
        self.evaluator.changed_attributes, self.evaluator.set_once = changed, once
        known = {name for name in before[0] if name not in changed or name in once}
        return before != (changed, once) and bool(known & self.evaluator.not_told)

    def _run(self, modules: list[int], read: Read) -> dict[int, bool]:
        """Return the scopes of the blocks that run -> whether they surely do.

        What only a branch names that may not be taken may not run; what only branches name that are not taken does not.
        """
        runs = dict.fromkeys(modules, True)
        files = {id(scope): scope.path for _, scope in self.blocks}
        named: dict[str, bool] = {}
        waiting = [self._with_call(each) for each in self._named if id(each.scope) in read]
        of_name = by_name(waiting)
        new, asked = list(modules), {id(each): each for each in waiting if not each.names}
        while new:
            for scope in new:
                means = self.means[files[scope]]
                for node, is_sure in read[scope]:
                    surely = bool(is_sure and runs[scope])
                    for name in () if is_sure is None else _names_of(node, means):
                        for each in (name, self.renamed.get(name, name)):
                            if named.get(each) in (True, surely):
                                continue
                            named[each] = surely
                            asked.update((id(function), function) for function in of_name(each))
            functions, asked, new = list(asked.values()), {}, []
            for function in functions:
                key, said = id(function.scope), [named[n] for n in function.names if n in named]
                surely = any(said) or not function.names
                if function.method or function.called:
                    surely = surely and named.get(function.method or function.called, False)
                if function.may_run(named) and runs.get(key) is not surely and not runs.get(key):
                    runs[key] = surely
                    new.append(key)
        return runs

    @cached_property
    def _called_methods(self) -> frozenset[str]:
        """Names that the script calls methods by, but for those of the class above: `super().compute_loss(model)` is none."""
        return frozenset(
            node.attr
            for node in self.nodes
            if isinstance(node, ast.Attribute) and not isinstance(node.value, ast.Call)
        )

    def _with_call(self, function: Named) -> Named:
        """Return a function with its name, where it is a method that the script calls, and no library alone."""
        method = self._methods.get(id(function.scope), ("", None))[1]
        if method is None or function.method or method.name not in self._called_methods:
            return function
        return replace(function, called=as_method(method.name))

    def _read_block(
        self, nodes: Sequence[tuple[ast.AST, bool | None]], scope: Scope, runs_surely: bool
    ) -> None:
        for node, may_run in nodes:
            is_sure = runs_surely and may_run is True
            if may_run is None:
                self.untaken.append((scope.path, node))
            elif isinstance(node, ast.Call):
                held = self.calls if is_sure else self.unsure
                held.append(CallFound(last_name(node.func), node, scope))
            elif isinstance(node, ast.Assign):
                (self.statements if is_sure else self.unsure_statements).append((node, scope))

    @cached_property
    def defined(self) -> Mapping[str, Sequence[tuple[ast.FunctionDef, Scope]]]:
        """Functions, and classes with what makes their objects, where no class that stands on that one calls it, too."""
        own = {id(each[0]): each for each in self.functions.get("__init__", ())}
        classes = [cls for cls, _ in self.classes.values()]
        making = [
            cls for cls in classes if (made := self.classes.constructor(cls)) and made[0] is cls
        ]
        constructors = {}
        for cls in classes:
            made = self.classes.constructor(cls)
            if made is None or id(made[1]) not in own:
                continue
            if not any(
                self.classes.stands_on(each, made[0]) for each in making if each is not made[0]
            ):
                constructors[cls.name] = [own[id(made[1])]]
        named = {**self.functions, **self.of_file, **self.methods.functions}
        return {**constructors, **{name: self.as_called(held) for name, held in named.items()}}

    def _sites(self) -> dict[str, list[tuple[ast.Call, Scope]]]:
        """Return function, or class, -> its calls, by its name or as an attribute of a file that is imported, and those of
        a library that it is handed to."""
        sites: dict[str, list[tuple[ast.Call, Scope]]] = {}
        for found in (*self.everywhere, *handed_calls(self.everywhere)):
            name = self._means(found)
            for each in (name,) if name else self.methods.may_be(found.node, found.scope):
                if each in self.defined:
                    node = self.methods.bound(found.node, found.scope)
                    sites.setdefault(each, []).append((node, found.scope))
        return sites

    def _means(self, found: CallFound) -> str:
        func, path = found.node.func, found.scope.path
        made = self.class_of(func.id, path) if isinstance(func, ast.Name) else None
        return made[0].name if made is not None else self.called(func, found.scope)

    def told(self, found: CallFound) -> dict[str, Known]:
        """Return what a call gives one of the script's own functions or classes, by the names of its parameters."""
        definitions = self.defined.get(self._means(found), ())
        if len(definitions) != 1:
            return self.keywords(found)[0]
        node = self.methods.bound(found.node, found.scope)
        return {
            **told_by(*definitions[0], (node, found.scope), self.evaluator),
            **self.keywords(found)[0],
        }

    def evaluated_before(self, attribute: str, node: ast.expr, scope: Scope) -> Known:
        """Return a value that an attribute is set to; in it stands what that attribute was, where nothing else sets it."""
        if self.evaluator.changed_attributes.get(attribute) == 1:
            self.evaluator.before_change = attribute
        known = self.evaluator.evaluate(node, scope)
        self.evaluator.before_change = ""
        return known

    def only_call(self, node: ast.expr | None, scope: Scope) -> CallFound | None:
        """Return the call that alone makes what a name stands for, or that an expression is; None where none is seen."""
        only = None if node is None else self.evaluator.only_node(node, scope)
        made, around = only or (None, scope)
        return CallFound(last_name(made.func), made, around) if isinstance(made, ast.Call) else None

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
            elif isinstance(known.value, (dict, Parsed)):
                held = known.value.names if isinstance(known.value, Parsed) else known.value
                for name, value in held.items():
                    place = Place("script", found.scope.path, str(name), keyword.value.lineno)
                    # What vars(args) holds knows its own place and flag.
                    values[str(name)] = value if isinstance(value, Known) else Known(value, place)
            else:
                is_open = True
        return values, is_open

    def line_of(self, call: CallFound) -> list[ast.ClassDef]:
        """Return the class of the script's own that a call makes an object of, the one that it stands on, and so on."""
        held = self.class_of(call.name, call.scope.path)
        return [] if held is None else [*self.classes.line(held[0])]

    def kinds_of(self, call: CallFound) -> set[str]:
        """Return the classes that one of the script's own stands on which a call makes; of another what it is called."""
        held = self.class_of(call.name, call.scope.path)
        return {call.name} if held is None else {last_name(base) for base in held[0].bases}

    def named(self, *names: str) -> list[CallFound]:
        """Return the calls of these names, in order."""
        return [found for found in self.calls if found.name in names]

    def maybe(self, *names: str) -> list[CallFound]:
        """Return the calls of these names that may run or not, in order."""
        return [found for found in self.unsure if found.name in names]

    @property
    def possible_calls(self) -> list[CallFound]:
        """The calls that run, and behind them those that may run or not."""
        return [*self.calls, *self.unsure]

    @property
    def possible_trainers(self) -> list[CallFound]:
        """Those of them that make a trainer."""
        return [found for found in self.possible_calls if self.makes_trainer(found)]

    @property
    def possible_statements(self) -> list[tuple[ast.Assign, Scope]]:
        """The assignments that run, and behind them those that may run or not, each with the names around it."""
        return [*self.statements, *self.unsure_statements]

    def possible(self, *names: str) -> list[CallFound]:
        """Return the calls of these names that run, and behind them those that may run or not."""
        return [found for found in self.possible_calls if found.name in names]

    def place(self, found: CallFound) -> Place:
        """Return where a call stands."""
        return Place("script", found.scope.path, found.name, found.node.lineno)


def attributes_set(
    statements: Iterable[tuple[ast.Assign, Scope]],
) -> Iterator[tuple[ast.Attribute, ast.expr, Scope]]:
    """Yield the attributes that assignments set, each with what it is set to."""
    for node, scope in statements:
        if isinstance(node.targets[0], ast.Attribute):
            yield node.targets[0], node.value, scope


def _names_of(node: ast.AST, means: Meaning) -> Iterable[str]:
    """Return the names that a node itself uses; of a function or class those that its definition does."""
    if isinstance(node, (ast.Name, ast.Attribute)):
        return means.of(node)
    return names_in([node], means) if isinstance(node, DEFINITIONS) else ()
