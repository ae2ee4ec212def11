"""launchers/axolotl/keys.json and launchers/llamafactory/arguments.json: the keys of both, as installed here.

Neither is installed for the tests: both pin other versions of the rest. With an unpacked wheel of an older LLaMA-Factory
on PYTHONPATH (before 0.8 its package `llmtuner`, linked as `llamafactory`), the arguments that only older releases have are kept with the first and the last of them.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import json
import re
import types
import typing
from pathlib import Path
from typing import Any

from preflight.derive.tables.json_rows import in_rows
from preflight.derive.tables.trainer_tables import parser_arguments
from preflight.derive.target import Files, Say, read
from preflight.scripts.arguments.trainer_tables import argument_table
from preflight.versions.boundary import release

AXOLOTL_PATH = "preflight/launchers/axolotl/keys.json"
LLAMAFACTORY_PATH = "preflight/launchers/llamafactory/arguments.json"


def derive_axolotl() -> dict[str, Any]:
    """Return the keys of AxolotlInputConfig and, by folder, of axolotl's own plugins, each with kind and default."""
    axolotl = importlib.import_module("axolotl")
    config = importlib.import_module("axolotl.utils.schemas.config").AxolotlInputConfig
    fsdp = importlib.import_module("axolotl.utils.schemas.fsdp").FSDPConfig
    enums = importlib.import_module("axolotl.utils.schemas.enums")
    cli = Path(axolotl.__path__[0]) / "cli"
    plugins: dict[str, dict[str, list[Any]]] = {}
    for path in sorted(Path(axolotl.__path__[0]).glob("integrations/*/args.py")):
        # Read as text: importing a plugin wants everything that it trains with.
        tree = ast.parse(path.read_text(encoding="utf-8"))
        own: dict[str, list[Any]] = {}
        for node in tree.body:
            if isinstance(node, ast.ClassDef):
                own.update(_class_entries(node))
        plugins[path.parent.name] = own
    return {
        "version": _version(axolotl, "axolotl"),
        "keys": _fields(config),
        "plugin_keys": plugins,
        "fsdp_keys": _fields(fsdp),
        "cli_arguments": _class_fields(cli / "args.py", "TrainerCliArgs"),
        **_command_options(cli / "config_options.py"),
        "optimizers": [item.value for item in enums.CustomSupportedOptimizers],
    }


def _fields(model: Any) -> dict[str, list[Any]]:
    found = {}
    for name, field in getattr(model, "model_fields", {}).items():
        default = None if field.is_required() else field.get_default(call_default_factory=True)
        for key in dict.fromkeys((name, field.alias or name)):  # both are taken
            found[key] = [_kind(field.annotation), _plain(default)]
    return found


def _class_fields(path: Path, name: str) -> dict[str, list[Any]]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return _class_entries(
        next(n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == name)
    )


def _command_options(path: Path) -> dict[str, list[str]]:
    """Return the sections that the command takes as `--section.key`, and what takes no value beside the bool keys."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    listed = next(ast.literal_eval(n.value) for n in tree.body if isinstance(n, ast.Assign))
    names = [name for names, *_ in listed for name in names]
    dotted = [name.partition("/")[0][2:].replace("-", "_") for name in names if "." in name]
    switches = [
        name.partition("/")[0][2:].replace("-", "_")
        for name in names
        if "/" in name and ("." in name or name.startswith("--peft-init-lora-weights"))
    ]
    return {
        "cli_sections": sorted({name.partition(".")[0] for name in dotted}),
        "cli_switches": sorted(switches),
    }


def _class_entries(node: ast.ClassDef) -> dict[str, list[Any]]:
    """Return the annotated fields of a class as kinds, from its text."""
    found: dict[str, list[Any]] = {}
    for item in node.body:
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
            words = ast.unparse(item.annotation).replace("Optional[", "").rstrip("]").split(" | ")
            kinds = [word for word in words if word != "None"]
            is_plain = len(kinds) == 1 and kinds[0] in ("bool", "int", "float", "str")
            found[item.target.id] = [kinds[0] if is_plain else "any", None]
    return found


def _kind(annotation: Any) -> str:
    """Return bool, int, float or str where the key takes nothing else (beside null), any otherwise."""
    options = [annotation]
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        options = [o for o in typing.get_args(annotation) if o is not type(None)]
    if len(options) == 1 and options[0] in (bool, int, float, str):
        return str(options[0].__name__)
    return "any"


def derive_llamafactory() -> dict[str, Any]:
    """Return the arguments of LLaMA-Factory's parser that the shipped table of TrainingArguments does not have.

    Among them are a few of its base class, and of the older transformers that LLaMA-Factory wants.
    """
    import transformers

    parser_module = importlib.import_module("llamafactory.hparams.parser")
    parser = transformers.HfArgumentParser(parser_module._TRAIN_ARGS)
    theirs = argument_table(None).arguments
    return {
        "version": importlib.import_module("llamafactory.extras.env").VERSION,
        "transformers": transformers.__version__,
        "arguments": {n: e for n, e in parser_arguments(parser, set()).items() if n not in theirs},
    }


def _version(module: Any, name: str) -> str:
    found = getattr(module, "__version__", "")
    if found and found != "unknown":
        return str(found)
    from importlib.metadata import version

    return version(name)


def _plain(value: Any) -> Any:
    value = getattr(value, "value", value)
    return value if isinstance(value, (bool, int, float, str, type(None))) else str(value)


def axolotl_files(say: Say) -> Files:
    """Yield the file of the installed axolotl."""
    yield AXOLOTL_PATH, in_rows(derive_axolotl())


def _llamafactory_names() -> tuple[str, set[str]]:
    """Return the release of the LLaMA-Factory at hand and its arguments, from its text: an old one is not imported."""
    found = importlib.util.find_spec("llamafactory")
    assert found is not None and found.origin is not None
    package = Path(found.origin).parent
    places = [
        path
        for name in ("extras/env.py", "cli.py", "__init__.py")
        if (path := package / name).exists()
    ]
    text = "\n".join(path.read_text(encoding="utf-8") for path in places)
    version = re.search(r'^(?:VERSION|__version__) = "([^"]+)"', text, re.M)
    assert version is not None, f"{places} have no version"
    names: set[str] = set()
    for path in package.glob("hparams/*_args.py"):
        if path.name != "evaluation_args.py":  # of another command
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                if isinstance(node, ast.ClassDef) and node.name.endswith("Arguments"):
                    names.update(item for item in _class_entries(node) if item not in _unset(node))
    return version[1], names


def _unset(node: ast.ClassDef) -> set[str]:
    """Return the fields of a dataclass that its constructor does not take."""
    fields = [item for item in node.body if isinstance(item, ast.AnnAssign)]
    return {
        ast.unparse(item.target)
        for item in fields
        if isinstance(item.value, ast.Call)
        and any(
            word.arg == "init" and not ast.literal_eval(word.value) for word in item.value.keywords
        )
    }


def llamafactory_files(say: Say) -> Files:
    """Yield the file of the newest LLaMA-Factory that was at hand, with what older ones had beside."""
    table = json.loads(read(LLAMAFACTORY_PATH) or '{"version": "0"}')
    version, names = _llamafactory_names()
    older: dict[str, list[str]] = table.get("older", {})
    if release(version) >= release(table["version"]):
        table = derive_llamafactory()
    known = {*table["arguments"], *argument_table(None).arguments}
    for name in names:
        releases = sorted({*older.get(name, ()), version}, key=release)
        older[name] = [releases[0], releases[-1]]
    table["older"] = {name: older[name] for name in sorted(older) if name not in known}
    yield LLAMAFACTORY_PATH, in_rows(table)
