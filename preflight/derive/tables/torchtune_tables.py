"""launchers/torchtune/table.json: recipes, the keys they read, built-in configs and model builders of one torchtune.

PYTHONPATH may name the unpacked wheel (recipes/ and torchtune/ side by side). Sources are parsed, nothing is imported.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from preflight.derive.target import Files, Say
from preflight.launchers.torchtune.builders import builders_in, model_of
from preflight.versions.installed import installed_versions

PATH = "preflight/launchers/torchtune/table.json"

NOT_READ = ("profiler", "metric_logger", "lr_scheduler", "output_dir", "log_level")
"""Sections of a config that no plan field comes from: left out of the table."""
NO_MODELS = ("_tokenizer", "_transform", "_text_encoder", "_autoencoder", "_encoder")
"""Ends of the names of builders that make something else."""


def derive(folder: Path, version: str) -> dict[str, Any]:
    """Return the table of an unpacked torchtune."""
    recipes: dict[str, Any] = {}
    configs: dict[str, Any] = {}
    for name, file, is_distributed, names in _registry(folder):
        reads = _keys_read((folder / "recipes" / file).read_text())
        if "optimizer" not in reads:
            continue  # generate, eleuther_eval, quantize: nothing is trained
        known = {}
        for config, path in names:
            source = folder / "recipes" / "configs" / path
            if not source.is_file():
                continue  # dev/7B_full_early_exit of 0.6.1 is registered and not shipped
            known[config] = path
            values = yaml.safe_load(source.read_text())
            configs[path] = {k: _compact(v) for k, v in values.items() if k not in NOT_READ}
        recipes[name] = {"distributed": is_distributed, "reads": sorted(reads), "configs": known}
    return {
        "version": version,
        "recipes": recipes,
        "configs": configs,
        "builders": _builders(folder / "torchtune" / "models", configs),
    }


def _compact(value: Any) -> Any:
    """Return a section without the file lists that nothing is read from."""
    if not isinstance(value, dict):
        return value
    dropped = ("checkpoint_files", "recipe_checkpoint", "output_dir", "path", "prompt_template")
    return {key: inner for key, inner in value.items() if key not in dropped}


def _registry(folder: Path) -> list[tuple[str, str, bool, list[tuple[str, str]]]]:
    found = []
    tree = ast.parse((folder / "torchtune" / "_recipe_registry.py").read_text())
    for call in ast.walk(tree):
        if not isinstance(call, ast.Call) or getattr(call.func, "id", "") != "Recipe":
            continue
        given = {word.arg: word.value for word in call.keywords}
        configs = []
        for config in getattr(given["configs"], "elts", ()):
            words = {word.arg: ast.literal_eval(word.value) for word in config.keywords}
            configs.append((words["name"], words["file_path"]))
        name, file, many = (
            ast.literal_eval(given[key]) for key in ("name", "file_path", "supports_distributed")
        )
        found.append((name, file, many, configs))
    return found


def _keys_read(text: str) -> set[str]:
    """Return the top-level keys that a recipe takes from its config: `cfg.KEY` and `cfg.get("KEY")`."""
    keys = {"output_dir", "resume_from_checkpoint", "enable_async_checkpointing", "checkpointer"}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Attribute) and _is_config(node.value):
            keys.add(node.attr)
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr == "get"
            and _is_config(node.func.value)
            and node.args
        ):
            key = node.args[0]
            keys.add(str(key.value) if isinstance(key, ast.Constant) else "profiler")
    return keys - {"get"}


def _is_config(node: ast.expr) -> bool:
    own = isinstance(node, ast.Attribute) and node.attr in ("cfg", "_cfg")
    return own or (isinstance(node, ast.Name) and node.id == "cfg")


def _builders(folder: Path, configs: Mapping[str, Any]) -> dict[str, Any]:
    """Return model builder -> its arguments, the registry's model of its sizes, the longest row that it takes, and
    whether it quantizes the base."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(folder.glob("*/_model_builders.py")):
        found |= builders_in(path.read_text(), f"torchtune.models.{path.parent.name}.", found)
    folders = _folders(configs)
    for name, entry in found.items():
        model = model_of(name, entry.pop("sizes"), folders.get(name, ""))
        if model is not None:
            entry["model"] = model
    return {name: entry for name, entry in found.items() if not name.endswith(NO_MODELS)}


def _folders(configs: Mapping[str, Any]) -> dict[str, str]:
    """Return builder -> the folder name that a shipped config loads its checkpoint from."""
    found: dict[str, str] = {}
    for values in configs.values():
        model, checkpointer = values.get("model"), values.get("checkpointer")
        if isinstance(model, dict) and isinstance(checkpointer, dict):
            folder = str(checkpointer.get("checkpoint_dir", "")).strip("/").rsplit("/", 1)[-1]
            found.setdefault(str(model.get("_component_")), folder)
    return found


def files(say: Say) -> Files:
    """Yield the file of the installed release."""
    spec = find_spec("torchtune")
    assert spec is not None and spec.origin is not None
    folder = Path(spec.origin).parents[1]
    table = derive(folder, installed_versions(("torchtune",))["torchtune"])
    yield PATH, json.dumps(table, separators=(",", ":"), sort_keys=True) + "\n"
