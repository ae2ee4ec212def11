"""launchers/swift/arguments.json: the arguments of ms-swift's training commands, release by release, and its own configs;
launchers/swift/models.json: the models that releases before 3.0 know by a name of their own.

ms-swift wants other versions of the rest than the tests have, so nothing of it is imported: with an unpacked wheel on
PYTHONPATH, that release is read as text and put beside those that the file has already.
"""

from __future__ import annotations

import ast
import importlib.util
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from preflight.derive.tables.json_rows import in_rows
from preflight.derive.tables.release_rows import with_release
from preflight.derive.target import Files, Say, read
from preflight.scripts.arguments.trainer_tables import argument_table
from preflight.values import NamedTuple
from preflight.versions.boundary import release

PATH = "preflight/launchers/swift/arguments.json"
COMMANDS = {"sft": ("SftArguments", "TrainArguments"), "rlhf": ("RLHFArguments",)}
"""Command -> the class of its arguments, by its names in all releases: `pt` has those of sft."""
PRESETS = ("zero0", "zero1", "zero2", "zero3", "zero2_offload", "zero3_offload", "fsdp2")
"""What `--deepspeed` and `--fsdp` take in place of a file."""
FIRST = "3.0"
"""Release since which the arguments have these names; those of older ones are kept apart."""
MODELS_PATH = "preflight/launchers/swift/models.json"


class _Class(NamedTuple):
    bases: tuple[str, ...]
    fields: Mapping[str, list[Any]]


def swift_files(say: Say) -> Files:
    """Yield the file with the release at hand put into it."""
    table: dict[str, Any] = json.loads(read(PATH) or "{}")
    package, version = _at_hand()
    say(f"ms-swift {version}")
    if release(version) < release(FIRST):
        known = {*argument_table(None).arguments, *table["sft"], *table["rlhf"]}
        table["before"] = sorted({*table.get("before", ()), *_names(package)} - known)
        releases = sorted({*table.get("releases_before", ()), version}, key=release)
        found = dict(_fields_of("SftArguments", _classes(package)))
        table["releases_before"] = releases
        table["sft_before"] = with_release(table.get("sft_before", {}), found, version, releases)
        presets = with_release(
            table.get("presets_before", {}), _presets(package), version, releases
        )
        table["presets_before"] = presets
        yield MODELS_PATH, in_rows(_with_models(json.loads(read(MODELS_PATH) or "{}"), package))
    else:
        releases = sorted({*table.get("releases", ()), version}, key=release)
        table = {
            "releases": releases,
            **{
                name: with_release(table.get(name, {}), found, version, releases)
                for name, found in _found(package)
            },
            "before": table.get("before", []),
            "releases_before": table.get("releases_before", []),
            "sft_before": table.get("sft_before", {}),
            "presets_before": table.get("presets_before", {}),
        }
    yield PATH, in_rows(table)


def _at_hand() -> tuple[Path, str]:
    found = importlib.util.find_spec("swift")
    assert found is not None and found.origin is not None
    package = Path(found.origin).parent
    said = ast.parse((package / "version.py").read_text(encoding="utf-8"))
    named = (node for node in said.body if isinstance(node, ast.Assign))
    version = next(n.value for n in named if ast.unparse(n.targets[0]) == "__version__")
    return package, str(ast.literal_eval(version))


def _found(package: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the sections of the file with what a release has for them."""
    classes = _classes(package)
    theirs: dict[str, Any] = {}
    for command, names in COMMANDS.items():
        name = next(name for name in names if name in classes)
        fields = dict(_fields_of(name, classes))
        yield command, {n: e for n, e in sorted(fields.items()) if theirs.get(n) != e}
        theirs = theirs or fields
    yield "presets", _presets(package)


def _presets(package: Path) -> dict[str, Any]:
    presets = {}
    for name in PRESETS:
        for path in package.rglob(f"{name}.json"):
            config = json.loads(path.read_text(encoding="utf-8"))
            presets[name] = [{k: v for k, v in config.items() if not k.startswith("_")}]
    return presets


def _classes(package: Path) -> dict[str, _Class]:
    """Return the dataclasses of arguments by name, from the files that are called after them."""
    classes: dict[str, _Class] = {}
    for path in sorted(package.rglob("*.py")):
        if "arg" not in path.name or {"megatron", "ui"} & set(path.parts):
            continue
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef):
                bases = tuple(ast.unparse(base).rpartition(".")[2] for base in node.bases)
                fields = {
                    item.target.id: _entry(item.annotation, item.value)
                    for item in node.body
                    if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)
                }
                # TRL's and transformers' own classes have the names of those that derive from them.
                own = tuple(base for base in bases if base != node.name)
                classes.setdefault(node.name, _Class(own, fields))
    return classes


def _fields_of(name: str, classes: Mapping[str, _Class]) -> Iterator[tuple[str, list[Any]]]:
    """Yield the fields of a class, those that win last, as Python resolves its bases."""
    if name not in classes:
        return
    for base in reversed(classes[name].bases):
        yield from _fields_of(base, classes)
    yield from classes[name].fields.items()


def _entry(annotation: ast.expr, value: ast.expr | None) -> list[Any]:
    """Return kind, default and choices, as HfArgumentParser makes an option of a field."""
    default = _default(value)
    words = ast.unparse(annotation).replace("Optional[", "").replace("List[", "list[")
    if words.startswith("Literal"):
        written = (each for each in ast.walk(annotation) if isinstance(each, ast.Constant))
        return ["str", default, [str(each.value) for each in written if each.value is not None]]
    inner_most = words.rstrip("]").rpartition("[")[2].partition(",")[0].strip()
    plain = inner_most if inner_most in ("int", "float") else "str"
    if words.startswith("list["):
        return [f"list_{plain}" if plain != "str" else "list", default]
    if words.rstrip("]") == "bool":
        return ["flag" if default is not None else "bool", default]
    if words.startswith("Union"):
        return ["str", default]
    return [plain, default]


def _default(value: ast.expr | None) -> Any:
    if isinstance(value, ast.Call):
        words = {word.arg: word.value for word in value.keywords}
        if "default" in words:
            return _default(words["default"])
        factory = words.get("default_factory")
        if isinstance(factory, ast.Lambda):
            return _default(factory.body)
        return [] if factory is not None and ast.unparse(factory) == "list" else None
    try:
        return None if value is None else ast.literal_eval(value)
    except ValueError:
        return None


def _names(package: Path) -> Iterator[str]:
    """Yield the names of the arguments of a release before these commands had their own classes."""
    classes = _classes(package)
    for names in COMMANDS.values():
        for name in names:
            yield from (field for field, _ in _fields_of(name, classes))


def _with_models(table: Mapping[str, Any], package: Path) -> dict[str, Any]:
    """Return the models with those that a release registers: name -> id at ModelScope, id at the hub, kind of its LoRA,
    dtype where it has one of its own, and whether it can be checkpointed; and kind -> modules that LoRA adapts by default."""
    tree = ast.parse((package / "llm" / "utils" / "model.py").read_text(encoding="utf-8"))
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    names, targets = (_constants(classes[name]) for name in ("ModelType", "LoRATM"))
    models = dict(table.get("models", {}))
    for function in (node for node in tree.body if isinstance(node, ast.FunctionDef)):
        for call in function.decorator_list:
            if not isinstance(call, ast.Call) or ast.unparse(call.func) != "register_model":
                continue
            said = {word.arg: word.value for word in call.keywords}
            name, at_modelscope, kind, *_ = call.args
            at_hub, dtype = said.get("hf_model_id"), said.get("torch_dtype")
            models[names[ast.unparse(name).rpartition(".")[2]]] = [
                _default(at_modelscope),
                _default(at_hub),
                ast.unparse(kind).rpartition(".")[2],
                ast.unparse(dtype).rpartition(".")[2] if dtype is not None else None,
                _default(said.get("support_gradient_checkpointing")) is not False,
            ]
    adapted = {kind: modules for kind, modules in targets.items() if isinstance(modules, list)}
    return {
        "targets": dict(sorted({**table.get("targets", {}), **adapted}.items())),
        "models": dict(sorted(models.items())),
    }


def _constants(cls: ast.ClassDef) -> dict[str, Any]:
    """Return the class attributes that are written out, or named after one another."""
    held: dict[str, Any] = {}
    for node in cls.body:
        if isinstance(node, ast.Assign):
            name, value = ast.unparse(node.targets[0]), node.value
            held[name] = held.get(value.id) if isinstance(value, ast.Name) else _default(value)
    return held
