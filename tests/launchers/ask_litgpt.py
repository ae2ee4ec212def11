"""Asks the real litgpt what its command line makes of a launch; run by hand where litgpt is installed.

`python tests/launchers/ask_litgpt.py` writes for every case of tests/configs/litgpt/manifest.yaml either `refused`, with
the reason, or what litgpt's own parser settles on where it is no default; and the table of preflight/launchers/litgpt: the options
of every training command with their defaults, and the model that each of litgpt's names stands for. Nothing is
downloaded and no model is built.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
CASES = ROOT / "tests" / "configs" / "litgpt"
TABLE = ROOT / "preflight" / "launchers" / "litgpt" / "table.json"
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


def changed(words: list[str]) -> dict[str, Any]:
    """Return what the parser settles on where it differs from the command's defaults, or why it refuses."""
    settled, defaults = ask(words), ask([words[0], "a/b"])
    return {key: value for key, value in settled.items() if defaults.get(key) != value}


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


def table() -> dict[str, Any]:
    """Return the options of the training commands, and the models."""
    commands = {name: {**ask([name, "a/b"]), FIRST_WORD[name]: None} for name in FIRST_WORD}
    models = importlib.import_module("litgpt.config").name_to_config
    return {
        "version": importlib.metadata.version("litgpt"),
        "commands": commands,
        "models": {
            name: "/".join(config["hf_config"].values())
            for name, config in sorted(models.items())
            if list(config["hf_config"]) == ["org", "name"]
        },
    }


def _own_words(argv: str) -> list[str]:
    words = argv.split()
    return words[words.index("litgpt") + 1 :]


def main() -> None:
    TABLE.write_text(json.dumps(table(), indent=1, sort_keys=True) + "\n")
    os.chdir(CASES)
    cases = yaml.safe_load((CASES / "manifest.yaml").read_text())
    asked = {name: changed(_own_words(case["argv"])) for name, case in cases.items()}
    (CASES / "asked.json").write_text(json.dumps(asked, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    sys.exit(main())
