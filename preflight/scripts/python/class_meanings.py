"""What the classes of a training script hold in a launch: dataclasses that a parser fills, settings, objects that are made."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping

from preflight.launch import LaunchCommand
from preflight.scripts.python.assignments import returned_by
from preflight.scripts.python.dataclass_fields import (
    class_fields,
    class_values,
    dataclass_names,
    dataclass_types,
    given_names,
    is_closed,
    is_dataclass,
    with_set_on_self,
)
from preflight.scripts.python.field_types import converted
from preflight.scripts.python.files import ScriptFiles
from preflight.scripts.python.methods import is_class_method
from preflight.scripts.python.nodes import given_to, last_name, methods_of, names_in, unparse
from preflight.scripts.python.operators import is_same
from preflight.scripts.python.scope import UNKNOWN, FlagOf, Known, Parsed, Scope
from preflight.scripts.python.settings_objects import (
    entries_of,
    filled_by_command,
    of_mapping,
    takes_mapping,
)
from preflight.scripts.python.values import Evaluator

PARSES_DATACLASSES = (
    "parse_args_into_dataclasses",
    "parse_args_and_config",
    "parse_json_file",
    "parse_yaml_file",
)
"""Methods of the parsers of transformers and TRL; what a launch says in a file is said like what a flag says."""


class ClassMeanings(ScriptFiles):
    """A script's files with what their classes hold."""

    evaluator: Evaluator
    flag_of: FlagOf

    def __init__(self, command: LaunchCommand, path: str, text: str) -> None:
        super().__init__(command, path, text)
        self._namespace: Parsed | None = None
        self._values_of_classes: dict[str, Parsed] = {}
        self._filled_classes: dict[int, Parsed] = {}
        self._parsed: dict[int, Parsed] = {}
        """Those of them that the script itself asks for."""
        self._given: dict[tuple[int, str], tuple[ast.expr, Scope] | None] = {}
        """Class and field -> what alone its objects are given."""
        self._filled = filled_by_command(
            [(function, scope) for function, scope, _ in self.commands],
            [(found.node, found.scope) for found in self.everywhere],
        )

    @property
    def _has_parser_of_its_own(self) -> bool:
        """Whether a parser has another way to parse beside those of its library: alignment-handbook's, and others."""
        own = self.dataclass_parsers - {"HfArgumentParser", "TrlParser"}
        return any(found.name in own for found in self.everywhere)

    def forget_classes(self) -> None:
        """Forget what classes and parsers hold: the command line is another one now."""
        self._namespace = None
        self._values_of_classes.clear()
        self._filled_classes.clear()
        self._parsed.clear()
        self._given.clear()

    def _dataclasses(self, scope: Scope) -> object:
        made = [f for f in self.everywhere if f.name in self.dataclass_parsers]
        classes = dataclass_types(made[0].node, made[0].scope) if made else []
        return tuple(self._dataclass(each, made[0].scope.path) for each in classes) or None

    def parsed_class(self, node: ast.expr) -> str:
        """Return the class of the one of `args, more = parser.parse_args_into_dataclasses()` that is picked; empty for others."""
        if not isinstance(node, ast.Subscript) or not isinstance(node.value, ast.Call):
            return ""
        made = [f for f in self.everywhere if f.name in self.dataclass_parsers]
        types = dataclass_types(made[0].node, made[0].scope) if made else []
        position = getattr(node.slice, "value", None)
        is_place = isinstance(position, int) and 0 <= position < len(types)
        if last_name(node.value.func) not in PARSES_DATACLASSES or not is_place:
            return ""
        assert isinstance(position, int)
        return last_name(types[position])

    def _dataclass(self, node: ast.expr, path: str) -> Parsed:
        held = self.class_meant(node, path)
        if held is not None:
            return self.from_command(*held)
        given = dict(given_names(last_name(node), self.flag_of))
        return self._with_set_defaults(Parsed({**self._of_any_class(node, path), **given}))

    def class_meant(self, node: ast.expr, path: str) -> tuple[ast.ClassDef, Scope] | None:
        """Return the class of the script's own that a parser is told to fill: by its name, or by that of what is picked of a
        table, `Arguments = pick("tune")` where `pick` gives `KINDS[name]`."""
        held = self.class_of(unparse(node), path)
        written = [] if held is not None else self._written(node, path)
        call, scope = written[0] if len(written) == 1 else (None, None)
        made = self.functions.get(last_name(call.func), ()) if isinstance(call, ast.Call) else ()
        if len(made) != 1 or scope is None or not isinstance(call, ast.Call):
            return held
        function, own = made[0]
        given = returned_by(function)
        row = given[0] if len(given) == 1 else None
        if not isinstance(row, ast.Subscript) or not isinstance(row.value, ast.Name):
            return None
        tables = self.modules[own.path].assigned.get(row.value.id, ())
        asked = given_to(function, call)
        key = self.evaluator.value(asked.get(getattr(row.slice, "id", ""), row.slice), scope)
        if len(tables) != 1 or not isinstance(tables[0], ast.Dict):
            return None
        picked = [
            value
            for name, value in zip(tables[0].keys, tables[0].values, strict=True)
            if name is not None and isinstance(name, ast.Constant) and name.value == key
        ]
        return self.class_of(unparse(picked[0]), own.path) if len(picked) == 1 else None

    def _written(self, node: ast.expr, path: str) -> list[tuple[ast.expr, Scope]]:
        """Return what the blocks of a file set a name to, with the names there."""
        return [
            (value, scope)
            for scope in (each for _, each in self.blocks if each.path == path)
            for value in scope.assigned.get(getattr(node, "id", ""), ())
        ]

    def _of_any_class(self, node: ast.expr, path: str) -> Mapping[str, Known]:
        """Return what every dataclass of the repository says alike, of one that a function of its picks."""
        module = self.modules.get(path)
        written = [value for value, _ in self._written(node, path)]
        picks = [value.func for value in written if isinstance(value, ast.Call)]
        if module is None or not picks or len(picks) < len(written):
            return {}
        roots = {unparse(func).partition(".")[0] for func in picks}
        if not all(root in self.imports.get(path, {}) or root in self.functions for root in roots):
            return {}
        said: dict[str, Known] = {}
        for cls, scope in list(self.classes.values()):
            names = self.as_filled(cls, scope).names if is_dataclass(cls) else {}
            for name, known in names.items():
                other = said.setdefault(name, known)
                if not is_same(other.value, known.value):
                    said[name] = Known(UNKNOWN, known.place)
        return said

    def from_command(self, cls: ast.ClassDef, scope: Scope) -> Parsed:
        """Return a dataclass that the script fills as the command line does; it is asked for wherever an argument is used."""
        filled = self.as_filled(cls, scope)
        self._parsed[id(cls)] = filled
        return filled

    def as_filled(self, cls: ast.ClassDef, scope: Scope) -> Parsed:
        """Return a dataclass as the command line would fill it."""
        if id(cls) not in self._filled_classes:
            self._filled_classes[id(cls)] = Parsed({})  # a default that parses again ends here
            filled = dataclass_names(cls, scope, self.classes, self.evaluator, self.flag_of)
            filled = self._filled_inside(filled, cls, scope, "")
            self._filled_classes[id(cls)] = self._with_set_defaults(filled)
        return self._filled_classes[id(cls)]

    def _filled_inside(self, held: Parsed, cls: ast.ClassDef, scope: Scope, path: str) -> Parsed:
        """Return an object with what the command line says of those in its fields: `--model.name gpt2`, as tyro, draccus and
        pyrallis have it, or `--name gpt2` of simple_parsing."""
        names = dict(held.names)
        for field in class_fields(cls, scope, self.classes).values():
            known = names.get(field.name)
            if known is None or not isinstance(known.value, Parsed):
                continue
            words = names_in(field.annotation)
            inside = [own for word in words if (own := self.class_of(word, field.scope.path))]
            value, inner_path = known.value, f"{path}{field.name}."
            for own in inside:
                given = dict(self._given_inside(*own, inner_path))
                value = self._filled_inside(Parsed({**value.names, **given}), *own, inner_path)
            names[field.name] = Known(value, known.place, known.flag)
        return Parsed(names)

    def _given_inside(
        self, cls: ast.ClassDef, scope: Scope, path: str
    ) -> Iterator[tuple[str, Known]]:
        imported = (name for names in self.libraries.values() for name in names.values())
        is_flat = any(name.partition(".")[0] == "simple_parsing" for name in imported)
        for field in class_fields(cls, scope, self.classes).values():
            flags = [f"{path}{field.name}", *([field.name] if is_flat else [])]
            given = self.flag_of(flags)
            if given is not None:
                value = converted(given.value, field.annotation)
                yield field.name, Known(value, given.place, flags[-1])

    def _with_set_defaults(self, parsed: Parsed) -> Parsed:
        """Return a dataclass with the values that the script sets as defaults of its parser, which no flag says."""
        names = dict(parsed.names)
        for found in self.everywhere if self.dataclass_parsers else ():
            for keyword in found.node.keywords if found.name == "set_defaults" else ():
                held = names.get(keyword.arg or "")
                if held is not None and held.place.kind == "script":
                    value = self.evaluator.value(keyword.value, found.scope)
                    names[str(keyword.arg)] = Known(value, held.place, held.flag)
        return Parsed(names)

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
        held = self.class_of(name, scope.path)
        if held is not None and takes_mapping(held[0]):
            return of_mapping(node, scope, self.evaluator)
        if held is not None and id(node) in self._filled:
            return self.from_command(*held)
        values = self._values(name, scope.path)
        if held is None or values is None:
            return None
        from preflight.scripts.python.constructors import set_by_constructor  # for few scripts

        cls, outer = held
        constructors = () if is_dataclass(cls) else self.functions.get("__init__", ())
        if said := set_by_constructor(cls, constructors, (node, scope), self.evaluator):
            return Parsed({**values.names, **said})
        order = list(class_fields(cls, outer, self.classes)) if is_dataclass(cls) else []
        told = [*zip(order, node.args, strict=False)]
        told += [(each.arg, each.value) for each in node.keywords if each.arg is not None]
        whole = entries_of((e.value for e in node.keywords if e.arg is None), scope, self.evaluator)
        if whole is None or "__init__" in methods_of(cls) or len(node.args) > len(order):
            return None
        whole.update((each, self.evaluator.evaluate(given, scope)) for each, given in told)
        if any(each not in order for each in whole):
            return None
        names = {**values.names, **whole}
        return Parsed(with_set_on_self(names, cls, outer, self.classes))

    def by_its_class(self, node: ast.Call, scope: Scope) -> ast.Call | None:
        """Return `cls(rows=4)` of a classmethod as the call of its class that it is, where no other stands on that."""
        of_class, method = self._methods.get(id(scope), ("", None))
        held = self.class_of(of_class, scope.path) if of_class else None
        is_it = isinstance(node.func, ast.Name) and node.func.id == scope.receiver
        if not is_it or held is None or method is None or not is_class_method(method):
            return None
        if any(
            e is not held[0] and self.classes.stands_on(e, held[0])
            for e, _ in self.classes.values()
        ):
            return None
        func = ast.copy_location(ast.Name(of_class, ast.Load()), node.func)
        return ast.copy_location(ast.Call(func, node.args, node.keywords), node)

    def given_to_field(self, cls: ast.ClassDef, attribute: str) -> tuple[ast.expr, Scope] | None:
        """Return what the calls that make objects of a dataclass give one of its fields."""
        key = id(cls), attribute
        if key not in self._given:
            self._given[key] = None  # a call that asks for the field itself ends here
            from preflight.scripts.python.constructors import given_to_field  # for few scripts

            calls = ((each.node, each.scope) for each in self.everywhere)
            self._given[key] = given_to_field(cls, attribute, self.classes, calls, self.evaluator)
        return self._given[key]
