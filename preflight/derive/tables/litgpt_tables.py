"""launchers/litgpt/table.json: options and defaults of litgpt's training commands, and the models that it names.

litgpt's own parser says them; nothing is downloaded and no model is built.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from typing import Any

from preflight.derive.target import Files, Say
from preflight.versions.installed import installed_versions

PATH = "preflight/launchers/litgpt/table.json"
FIRST_WORD = {
    "finetune_full": "checkpoint_dir",
    "finetune_lora": "checkpoint_dir",
    "pretrain": "model_name",
}
"""Training command -> the argument that has no default."""
OF_ITS_OWN = ("data", "optimizer", "model_config")
"""Arguments that take what another class declares."""


def parser_of() -> Any:
    """Return the parser that `litgpt` makes (litgpt/__main__.py main)."""
    jsonargparse = importlib.import_module("jsonargparse")
    commands = importlib.import_module("litgpt.__main__").PARSER_DATA

    def run() -> None:
        jsonargparse.set_docstring_parse_options(attribute_docstrings=True)
        jsonargparse.CLI(commands)

    parser = jsonargparse.capture_parser(run)
    parser.exit_on_error = False
    return parser


def ask(words: list[str]) -> dict[str, Any]:
    """Return what the parser settles on, or why it refuses."""
    jsonargparse = importlib.import_module("jsonargparse")
    # Each command has a parser of its own, which exits by itself.
    jsonargparse.ArgumentParser.error = _refuse
    try:
        settled = parser_of().parse_args(words).as_dict()
    except ValueError as error:
        return {"refused": " ".join(str(error).split())}
    return _flat({k: v for k, v in settled[settled["subcommand"]].items() if k != "config"})


def _refuse(parser: Any, message: str, error: Exception | None = None) -> None:
    raise ValueError(message)


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        key = f"{prefix}{name}"
        if key in OF_ITS_OWN:
            flat[key] = value.get("class_path") if isinstance(value, dict) else value
        elif isinstance(value, dict) and key in ("train", "eval", "log"):
            flat.update(_flat(value, f"{key}."))
        else:
            flat[key] = value if isinstance(value, (str, int, float, type(None))) else str(value)
    return flat


def derive() -> dict[str, Any]:
    """Return the options of the training commands, the models, and the longest row that each takes."""
    commands = {name: {**ask([name, "a/b"]), FIRST_WORD[name]: None} for name in FIRST_WORD}
    module = importlib.import_module("litgpt.config")
    models = {
        name: "/".join(config["hf_config"].values())
        for name, config in sorted(module.name_to_config.items())
        if list(config["hf_config"]) == ["org", "name"]
    }
    return {
        "version": installed_versions(("litgpt",))["litgpt"],
        "commands": commands,
        "models": models,
        "block_sizes": {
            id: module.Config.from_name(name).block_size for name, id in models.items()
        },
    }


def files(say: Say) -> Files:
    """Yield the file of the installed release."""
    yield PATH, json.dumps(derive(), indent=1, sort_keys=True) + "\n"
