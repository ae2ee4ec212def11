"""Attributes that a script sets on a name, `args.lora = True`: which ones, how often, and what one holds from there on."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence

from preflight.lazy_pattern import lazy_pattern
from preflight.scripts.python.assignments import walk_block
from preflight.scripts.python.flow import ANYWHERE, Guard, ways_of
from preflight.scripts.python.nodes import parts_of_target, targets_of, unparse, walk
from preflight.scripts.python.scope import Scope
from preflight.values import NamedTuple, dataclass

_KEY = lazy_pattern(r"\[['\"](\w+)['\"]\]")
Read = Mapping[int, Sequence[tuple[ast.AST, bool | None]]]
"""Id of a block's scope -> its nodes, and whether they surely run; None for what is not reached."""
SetOnce = Mapping[str, tuple[ast.Assign, Scope]]
"""Attribute -> the one statement that sets it, which surely runs, and its block."""


@dataclass(frozen=True)
class Update:
    """A statement that sets attributes of an object by names that stand in no script: `vars(args).update(settings)`."""

    owner: ast.expr
    mapping: ast.expr | None
    """What has the names and their values; None where that is not seen."""
    guards: tuple[Guard, ...]
    """The conditions under which it runs."""
    scope: Scope


class Filled(NamedTuple):
    """An attribute that is set only where it holds nothing: what an object holds there otherwise stays."""

    asked: frozenset[int]
    """Ids of the attribute in the one condition that asks for it, where it holds what it did."""
    where_false: bool
    """Whether 0, an empty text and False are nothing too, beside None."""

    def keeps(self, value: object) -> bool:
        """Tell whether a value that is known stays."""
        return value is not None and (not self.where_false or bool(value))


def updates_of(
    blocks: Iterable[tuple[Sequence[ast.stmt], Scope]], caught: Mapping[int, str]
) -> Iterator[Update]:
    """Yield the statements of some blocks that give an object the entries of a mapping, or names that only running tells.

    `vars(args).update(settings)`, and `setattr(args, key, value)` for every item of some, but for keywords that a function
    catches: `caught` has its scope's id -> their name.
    """
    for body, scope in blocks:
        ways = ways_of(body)
        items: dict[tuple[str, str], ast.expr] = {}
        for node in walk_block(body):
            if isinstance(node, ast.For):
                names = tuple(map(unparse, parts_of_target(node.target)))
                walked = node.iter.func if isinstance(node.iter, ast.Call) else None
                if len(names) == 2 and isinstance(walked, ast.Attribute) and walked.attr == "items":
                    items[names[0], names[1]] = walked.value
            elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
                found = _updated_by(node.value, items)
                if found is not None and getattr(found[1], "id", "") != caught.get(id(scope), ()):
                    yield Update(*found, ways.get(id(node), ANYWHERE).guards, scope)


def _updated_by(
    call: ast.Call, items: Mapping[tuple[str, str], ast.expr]
) -> tuple[ast.expr, ast.expr | None] | None:
    """Return the object whose attributes a call sets by names that are no text of the script, and the mapping that has them."""
    given = [*call.args, *(each.value for each in call.keywords)]
    if unparse(call.func) == "setattr" and len(given) == 3:
        is_own = unparse(given[0]) in ("self", "cls")
        return None if is_own else (given[0], items.get((unparse(given[1]), unparse(given[2]))))
    whole = call.func.value if isinstance(call.func, ast.Attribute) else None
    if whole is None or not unparse(call.func).endswith(".update"):
        return None
    if isinstance(whole, ast.Call) and unparse(whole.func) == "vars" and len(whole.args) == 1:
        owner = whole.args[0]
    elif isinstance(whole, ast.Attribute) and whole.attr == "__dict__":
        owner = whole.value
    else:
        return None
    is_one = len(given) == 1 and all(each.arg is None for each in call.keywords)
    return None if unparse(owner) == "self" else (owner, given[0] if is_one else None)


def changed_attributes(nodes: Iterable[ast.AST]) -> Mapping[str, int]:
    """Return the attributes that are set on a plain name, `args.batch_size //= 2`, and how often; with a dot in front those
    that are set on what another object holds, `trainer.data_collator.length = 512`."""
    found: Counter[str] = Counter()
    for node in nodes:
        for target in targets_of(node):
            for each in parts_of_target(target):
                if not isinstance(each, ast.Attribute):
                    continue
                if isinstance(each.value, ast.Attribute):
                    found[f".{each.attr}"] += 1
                elif isinstance(each.value, ast.Name) and each.value.id != "self":
                    found[each.attr] += 1
    return found


def asked_before_change(nodes: Iterable[ast.AST], changed: Mapping[str, int]) -> dict[int, str]:
    """Return the id of a condition -> the attribute that it asks for, and that nothing but what stands under it sets: there
    it has what it had before, `if args.pack_len == 0: args.pack_len = args.max_length`."""
    found: dict[int, str] = {}
    for node in nodes:
        if not isinstance(node, ast.If):
            continue
        asked = {each.attr for each in walk(node.test) if isinstance(each, ast.Attribute)}
        for name in asked.intersection(changed):
            inside = changed_attributes(inner for inner in walk(node) if inner is not node)
            if inside.get(name) == changed[name]:
                found[id(node.test)] = name
    return found


def filled_attributes(nodes: Iterable[ast.AST], changed: Mapping[str, int]) -> Mapping[str, Filled]:
    """Return the attributes that are set to what they hold, or where that is nothing to something else:
    `args.name = args.name or args.model`."""
    filling: dict[str, list[tuple[frozenset[int], bool]]] = {}
    for node in nodes:
        if not isinstance(node, ast.Assign) or len(node.targets) != 1:
            continue
        target, value = node.targets[0], node.value
        if isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name):
            is_nothing = _empty_of(value, unparse(target))
            if is_nothing:
                itself = (id(n) for n in walk(value) if getattr(n, "attr", "") == target.attr)
                held = (frozenset(itself), is_nothing == "false")
                filling.setdefault(target.attr, []).append(held)
    return {
        name: Filled(held[0][0] if len(held) == 1 else frozenset(), any(f for _, f in held))
        for name, held in filling.items()
        if len(held) == changed.get(name)
    }


def _empty_of(value: ast.expr, name: str) -> str:
    """Return what a value takes for nothing that keeps a name otherwise: `None`, or `false` for whatever is; empty for others."""
    if isinstance(value, ast.BoolOp):
        is_kept = isinstance(value.op, ast.Or) and unparse(value.values[0]) == name
        return "false" if is_kept else ""
    if not isinstance(value, ast.IfExp):
        return ""
    asked = {unparse(value.body): "", unparse(value.orelse): "not "}.get(name)
    test = unparse(value.test)
    if asked is not None and test == f"{asked}{name}":
        return "false"
    equal = ("is not", "!=") if asked == "" else ("is", "==")
    return "None" if asked is not None and test in [f"{name} {e} None" for e in equal] else ""


def copied_attributes(
    nodes_of: Iterable[tuple[Iterable[ast.AST], Scope]],
) -> Mapping[str, list[tuple[ast.expr, Scope]]]:
    """Return the attributes that are set to one of the same name, `training.packed = data.packed`, with what each is taken of."""
    found: dict[str, list[tuple[ast.expr, Scope]]] = {}
    for nodes, scope in nodes_of:
        for node in nodes:
            value = node.value if isinstance(node, ast.Assign) and len(node.targets) == 1 else None
            target = node.targets[0] if isinstance(node, ast.Assign) else None
            if (
                isinstance(target, ast.Attribute)
                and isinstance(value, ast.Attribute)
                and isinstance(target.value, ast.Name)
                and target.value.id != "self"
                and target.attr == value.attr
            ):
                found.setdefault(target.attr, []).append((value.value, scope))
    return found


def changed_paths(nodes: Sequence[ast.AST]) -> frozenset[str]:
    """Return what is set by more than a name and an attribute: `config.model.name`, `config["model"]`.

    A key that is set under another name than its mapping was made by, a parameter or a name for the same, is `*.key`.
    """
    return _keys_of_others(nodes) | frozenset(
        dotted_path(each)
        for node in nodes
        if isinstance(node, (ast.Assign, ast.AugAssign))
        for each in targets_of(node)
        if isinstance(each, ast.Subscript)
        or (isinstance(each, ast.Attribute) and not isinstance(each.value, ast.Name))
    )


def _keys_of_others(nodes: Sequence[ast.AST]) -> frozenset[str]:
    others = {
        argument.arg
        for node in nodes
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        for argument in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
    }
    for node in nodes:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Name):
            others |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return frozenset(
        f"*.{node.slice.value}"
        for node in nodes
        if isinstance(node, ast.Subscript)
        and not isinstance(node.ctx, ast.Load)
        and isinstance(node.slice, ast.Constant)
        and isinstance(node.slice.value, str)
        and isinstance(node.value, ast.Name)
        and node.value.id in others
    )


def dotted_path(node: ast.expr) -> str:
    """Return an expression with its keys as attributes: `config.model.name` of `config["model"].name`."""
    return _KEY.sub(r".\1", unparse(node))


def left_unchanged(read: Read, passing: Container[int]) -> Mapping[str, int]:
    """Return the attributes that only branches set which are not taken, and how often; without statements of some ids."""
    left_out = (node for nodes in read.values() for node, may_run in nodes if may_run is None)
    inside = {id(inner): inner for node in left_out for inner in walk(node)}
    return changed_attributes(inner for key, inner in inside.items() if key not in passing)


def set_once(
    changed: Mapping[str, int],
    blocks: Iterable[tuple[object, Scope]],
    read: Read,
    runs: Mapping[int, bool],
) -> SetOnce:
    """Return which of the attributes that may change one statement sets that surely runs."""
    return {
        target.attr: (node, scope)
        for _, scope in blocks
        if runs.get(id(scope))
        for node, target in _settings(read[id(scope)])
        if changed.get(target.attr) == 1
    }


def _settings(
    nodes: Iterable[tuple[ast.AST, bool | None]],
) -> Iterator[tuple[ast.Assign, ast.Attribute]]:
    for node, is_sure in nodes:
        if is_sure and isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Attribute):
            yield node, node.targets[0]


def set_before(node: ast.Attribute, scope: Scope, once: SetOnce) -> ast.expr | None:
    """Return what an attribute was set to further up in the block where it is read; None where that is not sure."""
    assign, where = once.get(node.attr, (None, None))
    if assign is None or where is not scope or node.lineno <= (assign.end_lineno or 0):
        return None
    is_same = unparse(assign.targets[0]) == unparse(node)
    is_kept = len(scope.assigned.get(unparse(node.value), ())) <= 1
    return assign.value if is_same and is_kept else None
