"""Objects of settings that a script fills from a file or from its command line, whatever reads them.

`Config(yaml.safe_load(open(args.config)))`, `OmegaConf.load(path)`, `tyro.cli(Settings)`, and objects that
`update(config, **kwargs)` gives the command line of fire: all are names with values.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from preflight.errors import BadInput
from preflight.formats.load import read_document
from preflight.scripts.python.names import MAX_DEPTH
from preflight.scripts.python.nodes import last_name, methods_of, unparse
from preflight.scripts.python.scope import Known, Parsed, Scope
from preflight.scripts.python.values import Evaluator
from preflight.setting import Place

LOADS = {
    "yaml.safe_load": "yaml",
    "yaml.full_load": "yaml",
    "yaml.load": "yaml",
    "json.load": "json",
    "json.loads": "json",
    **dict.fromkeys(
        ("tomllib.load", "tomllib.loads", "tomli.load", "tomli.loads", "toml.load", "toml.loads"),
        "toml",
    ),
}
"""Call that reads a file -> what the file is."""
OF_MAPPING = frozenset(
    {
        "SimpleNamespace", "Namespace", "Dict", "EasyDict", "edict", "AttrDict", "Box", "DotMap", "Munch", "ConfigDict",
        "DictConfig", "OmegaConf.create",
    }
)  # fmt: skip
"""What makes an object of a mapping, by the last part of its name, or the two last."""
OF_OMEGACONF = frozenset({"OmegaConf.load", "OmegaConf.from_cli", "OmegaConf.merge"})
OF_PATH = ("open", "Path", "abspath", "realpath", "expanduser", "fspath")
"""What is given a path, and gives back that file or its path."""
OF_CLASS = frozenset({"tyro.cli", "simple_parsing.parse", "pyrallis.parse", "draccus.parse"})
"""What fills one class from the command line."""


def loaded(node: ast.Call, scope: Scope, evaluator: Evaluator) -> object:
    """Return what a call reads from a file that the launch has, or makes of such a mapping; None where it does not."""
    name = unparse(node.func)
    if name in OF_OMEGACONF:
        return _of_omegaconf(name, node, scope, evaluator)
    if name in ("OmegaConf.structured", "OmegaConf.to_object") and len(node.args) == 1:
        held = evaluator.value(node.args[0], scope)
        return held if isinstance(held, Parsed) else None
    if name in ("OmegaConf.to_container", "dict") and len(node.args) == 1:
        held = evaluator.value(node.args[0], scope)
        return dict(held.names) if isinstance(held, Parsed) else None
    if name in ("replace", "dataclasses.replace") and len(node.args) == 1:
        return _replaced(node, scope, evaluator)
    kind = LOADS.get(name) or ("yaml" if _is_of_ruamel(node.func, scope, evaluator) else "")
    if kind:
        return _document(node, scope, evaluator, kind)
    if last_name(node.func) == "ParallelismConfig":
        return _of_parallelism(node, scope, evaluator)
    if OF_MAPPING & {name.rpartition(".")[2], ".".join(name.split(".")[-2:])}:
        entries = _entries(node, scope, evaluator)
        return None if entries is None else Parsed(entries)
    return None


def _of_parallelism(node: ast.Call, scope: Scope, evaluator: Evaluator) -> Parsed | None:
    """Return accelerate's ParallelismConfig: sizes that the call says, and whether each is above 1, as `tp_enabled`; those
    that it leaves to the launcher's variables are not known (accelerate/parallelism_config.py, 1.15)."""
    if node.args or any(each.arg is None for each in node.keywords):
        return None
    names = {}
    for name, size in _keywords(node, scope, evaluator).items():
        if isinstance(size.value, int) and name.endswith("_size"):
            names[name] = size
            names[f"{name[:-5]}_enabled"] = replace(size, value=size.value > 1)
    return Parsed(names)


def _of_omegaconf(name: str, node: ast.Call, scope: Scope, evaluator: Evaluator) -> object:
    from preflight.scripts.python.hydra_main import loaded_file, merged, of_words  # few scripts

    if name == "OmegaConf.from_cli":
        return of_words(scope, evaluator.command)
    if name == "OmegaConf.merge":
        return merged(evaluator.value(each, scope) for each in node.args)
    path = path_of(node.args[0], scope, evaluator) if node.args else None
    return None if path is None else loaded_file(evaluator.command, path)


def _is_of_ruamel(func: ast.expr, scope: Scope, evaluator: Evaluator) -> bool:
    """Tell whether a method is `load` of ruamel's `YAML(typ="safe")`, by whatever name the script holds that."""
    if not isinstance(func, ast.Attribute) or func.attr != "load":
        return False
    held = [each for each, _ in evaluator.may_be(func.value, scope)]
    return bool(held) and all(isinstance(e, ast.Call) and last_name(e.func) == "YAML" for e in held)


def takes_mapping(cls: ast.ClassDef) -> bool:
    """Tell whether a class makes the entries of a mapping, or every keyword, its attributes: nothing else, and all of them."""
    own = methods_of(cls).get("__init__")
    if own is None:
        return False
    taken = [*own.args.args[1:], *([own.args.kwarg] if own.args.kwarg else [])]
    if len(taken) != 1:
        return False
    text = unparse(own)
    given = taken[0].arg
    return any(
        way in text
        for way in (
            f"self.__dict__ = {given}",
            f"self.__dict__.update({given})",
            f"self.__dict__.update(**{given})",
            f"vars(self).update({given})",
        )
    ) or (f"{given}.items()" in text and "setattr(self," in text)


def of_mapping(node: ast.Call, scope: Scope, evaluator: Evaluator) -> Parsed | None:
    """Return the object of a class that takes a mapping: `Config(values)` or `Config(**values)`."""
    entries = _entries(node, scope, evaluator)
    return None if entries is None else Parsed(entries)


def _entries(node: ast.Call, scope: Scope, evaluator: Evaluator) -> dict[str, Known] | None:
    given = [*node.args, *(each.value for each in node.keywords if each.arg is None)]
    entries = entries_of(given, scope, evaluator)
    if entries is None:
        return None
    entries.update(_keywords(node, scope, evaluator))
    return {key: _as_object(value) for key, value in entries.items()}


def _replaced(node: ast.Call, scope: Scope, evaluator: Evaluator) -> Parsed | None:
    """Return what `dataclasses.replace(config, rows=2)` gives; None where it cannot be told."""
    held = evaluator.value(node.args[0], scope)
    is_open = any(each.arg is None for each in node.keywords)
    if is_open or not isinstance(held, Parsed):
        return None
    return Parsed({**held.names, **_keywords(node, scope, evaluator)})


def _keywords(node: ast.Call, scope: Scope, evaluator: Evaluator) -> dict[str, Known]:
    return {k.arg: evaluator.evaluate(k.value, scope) for k in node.keywords if k.arg is not None}


def entries_of(
    mappings: Iterable[ast.expr], scope: Scope, evaluator: Evaluator
) -> dict[str, Known] | None:
    """Return the keys of some mappings, one after the other; None where one of them is not known."""
    entries: dict[str, Known] = {}
    for each in mappings:
        held = evaluator.evaluate(each, scope)
        if not isinstance(held.value, dict):
            return None
        for key, value in held.value.items():
            if isinstance(key, str):
                entries[key] = value if isinstance(value, Known) else Known(value, held.place)
    return entries


def _as_object(known: Known) -> Known:
    if not isinstance(known.value, dict):
        return known
    inner = {key: value for key, value in known.value.items() if isinstance(value, Known)}
    return Known(Parsed({str(key): _as_object(value) for key, value in inner.items()}), known.place)


def _document(
    node: ast.Call, scope: Scope, evaluator: Evaluator, kind: str
) -> dict[str, Known] | None:
    stated = node.args[0] if node.args else None
    path = None if stated is None else path_of(stated, scope, evaluator)
    return None if path is None else keys_of_file(path, evaluator, kind)


def keys_of_file(path: str, evaluator: Evaluator, kind: str) -> dict[str, Known] | None:
    """Return a file's keys; values of a mapping in it are such a dict themselves. None of a file that is not here, or broken."""
    if not evaluator.command.exists(path):
        return None
    try:
        if kind == "toml":
            return _of_toml(evaluator, path)
        document = read_document(evaluator.command, path, kind)
    except BadInput:
        return None

    def known(value: object, keys: tuple[str, ...]) -> Known:
        mark = document.mark(keys)
        place = Place("script", path, ".".join(keys), None if mark is None else mark.line)
        if isinstance(value, dict):
            return Known(
                {key: known(item, (*keys, str(key))) for key, item in value.items()}, place
            )
        return Known(value, place)

    return {str(key): known(value, (str(key),)) for key, value in document.value.items()}


def _of_toml(evaluator: Evaluator, path: str) -> dict[str, Known]:
    """Return a TOML file's keys, tables as such dicts."""
    from preflight.formats.toml import toml_leaves

    entries: dict[str, Known] = {}
    for name, setting in toml_leaves(evaluator.command, path, path).items():
        *tables, key = name.split(".")
        place, inner = replace(setting.place, kind="script"), entries
        for table in tables:
            held = inner.setdefault(table, Known({}, place)).value
            if not isinstance(held, dict):
                break  # a key that has a point in it
            inner = held
        else:
            inner[key] = Known(setting.value, place)
    return entries


def path_of(node: ast.expr, scope: Scope, evaluator: Evaluator, depth: int = 0) -> str | None:
    """Return the path of what is read: `open(path)`, a name that holds that, `Path(path).read_text()`, or a path.

    None where only running tells.
    """
    if isinstance(node, ast.Name):
        opened = [e for e in evaluator.may_be(node, scope) if isinstance(e[0], ast.Call)]
        if len(opened) == 1 and depth < MAX_DEPTH:  # `path = Path(path)`, in a loop
            return path_of(*opened[0], evaluator, depth + 1)
    if isinstance(node, ast.Call):
        func = node.func
        name = func.attr if isinstance(func, ast.Attribute) else getattr(func, "id", "")
        if name in (*OF_PATH, "read_text", "read"):
            inner = node.args[0] if node.args and name in OF_PATH else None
            if inner is None and isinstance(func, ast.Attribute):
                inner = func.value
            return None if inner is None else path_of(inner, scope, evaluator, depth)
    value = evaluator.value(node, scope)
    return value if isinstance(value, str) else None


def filled_by_command(
    commands: Iterable[tuple[ast.FunctionDef, Scope]], calls: Iterable[tuple[ast.Call, Scope]]
) -> set[int]:
    """Return the ids of the calls whose object is given every keyword of the command line: `update(config, **kwargs)`."""
    catching = {id(scope): f.args.kwarg.arg for f, scope in commands if f.args.kwarg is not None}
    found: set[int] = set()
    for call, scope in calls:
        caught = catching.get(id(scope))
        passed = (each.value for each in call.keywords if each.arg is None)
        if caught and any(isinstance(each, ast.Name) and each.id == caught for each in passed):
            for name in _names(call.args):
                found |= {id(node) for node in scope.assigned.get(name, ())}
    return found


def _names(nodes: Iterable[ast.expr]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, (ast.Tuple, ast.List)):
            yield from _names(node.elts)


def class_of_command(node: ast.Call) -> ast.expr | None:
    """Return the class that a call fills from the command line: `tyro.cli(Settings)`; None where it is another call."""
    if unparse(node.func) not in OF_CLASS:
        return None
    named: Mapping[str | None, ast.expr] = {each.arg: each.value for each in node.keywords}
    return node.args[0] if node.args else named.get("config_class")
