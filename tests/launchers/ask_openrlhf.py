"""Asks OpenRLHF's own parsers and DeepSpeed configs what launches are; run by hand with unpacked wheels.

`python tests/launchers/ask_openrlhf.py FOLDER`, where FOLDER/RELEASE/ has the package `openrlhf` somewhere below, writes
for every case of tests/configs/openrlhf/manifest.yaml what the parser of its release settles on. The parser's lines are
run and nothing else of a trainer: they stand in front of what needs a GPU.
"""

from __future__ import annotations

import argparse
import ast
import importlib.util
import inspect
import json
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml
from written_answers import fill

CASES = Path(__file__).parents[2] / "tests" / "configs" / "openrlhf"


def parsed(path: Path, words: list[str]) -> dict[str, Any]:
    """Return what the parser of a trainer's file makes of the words behind its name."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    (main,) = (node for node in tree.body if isinstance(node, ast.If))
    lines = []
    for node in main.body:
        lines.append(node)
        if "parse_args" in ast.unparse(node):
            break
    space: dict[str, Any] = {"argparse": argparse, "datetime": datetime}
    sys.argv = [path.name, *words]
    exec(compile(ast.Module(lines, []), str(path), "exec"), space)
    return vars(space["args"])


def config_of(package: Path, args: dict[str, Any]) -> dict[str, Any]:
    """Return the DeepSpeed config that the release makes of its arguments."""
    (path,) = (package / "utils").rglob("deepspeed_utils.py")
    spec = importlib.util.spec_from_file_location("their_utils", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    make = module.get_train_ds_config
    plain = {name.rpartition(".")[2]: value for name, value in args.items()}
    given = {**plain, "offload": False, "stage": plain["zero_stage"]}
    names = inspect.signature(make).parameters
    config: dict[str, Any] = make(**{name: given[name] for name in names if name in given})
    return config


def settled(release: Path, argv: str) -> tuple[Path, dict[str, Any]]:
    """Return what the parser of a release makes of a command, and the file of its trainer."""
    words = argv.split()
    at = next(i for i, word in enumerate(words) if word.startswith("openrlhf.cli."))
    (path,) = release.rglob(words[at].replace(".", "/") + ".py")
    args = parsed(path, words[at + 1 :])
    return path, {n: v for n, v in args.items() if "wandb" not in n and "logger" not in n}


def main() -> None:
    folder = Path(sys.argv[1])
    answers = {}
    cases = yaml.safe_load((CASES / "manifest.yaml").read_text())
    releases = {name: folder / str(case["release"]) for name, case in cases.items()}
    for name, case in cases.items():
        path, kept = settled(releases[name], case["argv"])
        config = config_of(path.parents[1], kept)
        answers[name] = {"arguments": kept, "deepspeed": config}
    text = json.dumps(answers, indent=1, sort_keys=True)
    (CASES / "asked.json").write_text(text + "\n", encoding="utf-8")
    fill(CASES, lambda case, words: settled(releases[case], words)[1])


if __name__ == "__main__":
    main()
