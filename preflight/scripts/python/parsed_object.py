"""Where a script takes the object that its parser gives back.

An option is read as an attribute of that object, or by its name in a text. Where all of the object goes to what is not
followed, `run(**vars(args))`, any option may be read there.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator, Sequence

from preflight.plan_choices import HF_TRAINERS
from preflight.scripts.python.nodes import (
    given_to,
    last_name,
    methods_of,
    names_in,
    parameters_of,
    root_of,
    targets_of,
    unparse,
    walk,
)
from preflight.scripts.python.reader import ScriptReader

PARSES = frozenset(
    ["parse_args", "parse_known_args", "parse_args_into_dataclasses", "parse_args_and_config",
     "parse_json_file", "parse_yaml_file", "parse_dict"]
)  # fmt: skip
"""Methods of argparse's and transformers' parsers that give back what was said (argparse.py 3.11; hf_argparser.py 5.24)."""
LOADS = frozenset(["load", "loads", "safe_load", "full_load"])
"""Functions of yaml and json that give back what a file holds."""
_SHOWN = frozenset(
    ["print", "pprint", "pformat", "repr", "str", "isinstance", "len", "type", "bool", "init_trackers", "dumps", "dump",
     "safe_dump", "save", "info", "debug", "warning", "log", "hasattr", "setattr"]
)  # fmt: skip
"""Functions that show, write or fill what they are given, and take no setting of it."""
_HANDS_ON = frozenset(
    [
        "Namespace",
        "SimpleNamespace",
        "asdict",
        "copy",
        "deepcopy",
        "dict",
        "items",
        "replace",
        "sorted",
        "vars",
    ]
)
"""Functions that give back all that they are given."""


class ParsedObject:
    """Where the object goes that a script's parser gives back, or what a file held."""

    def __init__(self, reader: ScriptReader, made_by: Collection[str]) -> None:
        self.reader, self.uses = reader, reader.uses
        self._above = self.uses.above
        self.goes_to_library = False
        self._names: set[str] = set()
        """Variables, parameters and attributes that hold the object, and functions that give it back."""
        self.is_followed = self._follow(made_by)
        """Whether everywhere that the object goes, all of it, was followed."""

    def _follow(self, made_by: Collection[str]) -> bool:
        made = [use for name in made_by for use in self.uses.calls.get(name, ())]
        followed = [self._goes_on(*use) for use in made]
        seen: set[str] = set()
        while new := self._names - seen:
            seen |= new
            found = [use for name in new for use in self._taken_up(name)]
            followed += [self._goes_on(*use) for use in found]
        return bool(followed) and all(followed)

    def _taken_up(self, name: str) -> Sequence[tuple[str, ast.expr]]:
        """Return where all of the object may be taken up by a name that holds it, or by a call of what gives it back."""
        if name.endswith("()"):
            return self.uses.calls.get(name.removesuffix("()"), [])
        return [use for use in self.uses.reads.get(name, ()) if not self._gathers(use[1])]

    def holds(self, node: ast.expr | None) -> bool:
        """Tell whether a name is one of the object's."""
        return isinstance(node, (ast.Name, ast.Attribute)) and last_name(node) in self._names

    def _gathers(self, node: ast.AST) -> bool:
        """Tell whether a name is that of the arguments which a function gathers: `def wrapped(*args)`."""
        above = self._above.get(id(node))
        while above is not None:
            if isinstance(above, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
                gathered = (above.args.vararg, above.args.kwarg)
                if any(each is not None and each.arg == last_name(node) for each in gathered):  # type: ignore[arg-type]
                    return True
            above = self._above.get(id(above))
        return False

    def _goes_on(self, path: str, node: ast.expr) -> bool:
        """Note where one use of the object takes it; tell whether that is followed."""
        above = self._above.get(id(node))
        if isinstance(above, ast.Attribute):
            return above.attr != "__dict__" or self._goes_on(path, above)
        if isinstance(above, ast.Subscript):
            at = above.slice.value if isinstance(above.slice, ast.Constant) else None
            is_entry = isinstance(at, str) or not isinstance(above.ctx, ast.Load)
            return is_entry or (at is not None and self._goes_on(path, above))
        if isinstance(above, (ast.Tuple, ast.List, ast.IfExp)):
            return self._goes_on(path, above)
        if isinstance(above, (ast.For, ast.comprehension)):
            return self._is_shown(above)
        if isinstance(above, (ast.Assign, ast.AnnAssign, ast.NamedExpr)):
            return all(map(self._is_held_by, targets_of(above)))
        if isinstance(above, ast.Return):
            return self._is_given_back(above)
        if isinstance(above, (ast.Expr, ast.Compare, ast.FormattedValue, ast.BoolOp, ast.If)):
            return True
        if isinstance(above, ast.keyword):
            call = self._above.get(id(above))
            return isinstance(call, ast.Call) and self._is_handed(path, call, node)
        return isinstance(above, ast.Call) and self._is_handed(path, above, node)

    def _is_shown(self, loop: ast.For | ast.comprehension) -> bool:
        """Tell whether a loop over all options only shows them: `for name, value in vars(args).items(): print(name, value)`."""
        names = {*names_in(loop.target)}
        inside = [each for part in getattr(loop, "body", ()) for each in walk(part)]
        used = [each for each in inside if isinstance(each, ast.Name) and each.id in names]
        return bool(used) and all(map(self._stands_in_show, used))

    def _stands_in_show(self, node: ast.AST) -> bool:
        above: ast.AST | None = node
        while isinstance(above, ast.expr):
            if isinstance(above, ast.Call) and last_name(above.func) in _SHOWN:
                return True
            above = self._above.get(id(above))
            above = self._above.get(id(above)) if isinstance(above, ast.keyword) else above
        return False

    def _is_held_by(self, target: ast.expr) -> bool:
        if isinstance(target, (ast.Tuple, ast.List)):
            return all(self._is_held_by(each) for each in target.elts)
        inner = target.value if isinstance(target, ast.Starred) else target
        if not isinstance(inner, ast.Name) and root_of(inner) != "self":
            return False
        self._names.add(last_name(inner))
        return bool(last_name(inner))

    def _is_given_back(self, node: ast.AST) -> bool:
        above = self._above.get(id(node))
        while above is not None and not isinstance(above, (ast.FunctionDef, ast.Lambda)):
            above = self._above.get(id(above))
        if not isinstance(above, ast.FunctionDef):
            return False
        self._names.add(f"{above.name}()")
        return True

    def _is_handed(self, path: str, call: ast.Call, node: ast.expr) -> bool:
        """Tell whether what a call does with the object is followed, and note the parameter that holds it then."""
        name = last_name(call.func)
        if name == "getattr":
            return len(call.args) > 1 and isinstance(call.args[1], ast.Constant)
        if name in _SHOWN or root_of(call.func) == "wandb":
            return True
        if name in _HANDS_ON:
            return self._goes_on(path, call)
        if name == "update":  # it is filled, or fills another
            return isinstance(call.func, ast.Attribute) and call.func.value is node
        library = self.reader.libraries.get(path, {}).get(root_of(call.func), root_of(call.func))
        own = self.reader.class_of(name, path)
        is_library = library.partition(".")[0] in (*HF_TRAINERS, "deepspeed")
        if is_library or (own is not None and self.reader.classes.trains(own[0])):
            self.goes_to_library = True
            return True
        held = [*self._parameters(call, node, None if own is None else own[0])]
        self._names.update(held)
        if held:
            return all(held)
        return (
            isinstance(call.func, ast.Attribute)
            and name == "__init__"
            and unparse(call.func).startswith("super")
        )

    def _parameters(
        self, call: ast.Call, node: ast.expr, cls: ast.ClassDef | None
    ) -> Iterator[str]:
        """Yield what the functions of the script that a call may mean call the object; empty where they gather it."""
        functions = [made for made, _ in self.reader.functions.get(last_name(call.func), ())]
        if cls is not None:
            functions = [made for name, made in methods_of(cls).items() if name == "__init__"]
        for function in functions:
            names = {*parameters_of(function), *(each.arg for each in function.args.kwonlyargs)}
            given = given_to(function, call).items()
            yield next((name for name, each in given if each is node and name in names), "")
