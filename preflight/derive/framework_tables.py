"""launchers/axolotl/keys.json and launchers/llamafactory/arguments.json: the keys of both, as installed here.

Neither is installed for the tests: both pin other versions of the rest.
"""

from __future__ import annotations

import ast
import importlib
import types
import typing
from pathlib import Path
from typing import Any

from preflight.derive.json_rows import in_rows
from preflight.derive.target import Files, Say
from preflight.derive.trainer_tables import parser_arguments
from preflight.scripts.trainer_tables import argument_table

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


def llamafactory_files(say: Say) -> Files:
    """Yield the file of the installed LLaMA-Factory."""
    yield LLAMAFACTORY_PATH, in_rows(derive_llamafactory())
