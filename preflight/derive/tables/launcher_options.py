"""shell/starters/option_table.json: every option of the launchers of accelerate, torch and DeepSpeed, by their own parsers.

older_options.json beside it has what accelerate's parser took in releases before, read as text from unpacked wheels, a
folder accelerate-RELEASE each, in the folder that PREFLIGHT_RELEASES names. DeepSpeed's parser has lost none since 0.9.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from preflight.derive.tables.release_spans import FOLDER
from preflight.derive.target import Files, Say
from preflight.versions.boundary import release

OLDER = "preflight/shell/starters/older_options.json"
PATH = "preflight/shell/starters/option_table.json"

KINDS = {"_StoreConstAction": "unset", "_AppendAction": "append"}
TYPES = {
    "int": "int",
    "float": "float",
    "bool": "truthy",
    "str_to_bool": "bool",
    "<lambda>": "bools",
}
NOT_OPTIONS = ("help", "training_script", "training_script_args", "user_script", "user_args")


def derive() -> dict[str, Any]:
    """Return launcher -> key, flags, kind, choices and default of each option of the installed releases."""
    accelerate = importlib.import_module("accelerate.commands.launch")
    torchrun = importlib.import_module("torch.distributed.run")
    return {
        "versions": {
            library: importlib.import_module(library).__version__.partition("+")[0]
            for library in ("accelerate", "torch", "deepspeed")
        },
        "options": {
            "accelerate": list(_rows(accelerate.launch_command_parser())),
            "torchrun": list(_rows(torchrun.get_args_parser())),
            "deepspeed": list(_rows(_parser_of_deepspeed())),
        },
    }


def _parser_of_deepspeed() -> argparse.ArgumentParser:
    """Return the parser that its launcher makes in the function that asks it."""
    runner = importlib.import_module("deepspeed.launcher.runner")
    with mock.patch.object(argparse.ArgumentParser, "parse_args", autospec=True) as asked:
        runner.parse_args([])
    parser: argparse.ArgumentParser = asked.call_args.args[0]
    return parser


def _rows(parser: argparse.ArgumentParser) -> Iterator[list[Any]]:
    for action in parser._actions:
        if action.dest not in NOT_OPTIONS:
            choices = list(action.choices or ())
            yield [action.dest, action.option_strings, _kind(action), choices, action.default]


def _kind(action: Any) -> str:
    if type(action).__name__ in KINDS:
        return KINDS[type(action).__name__]
    if action.nargs == 0:
        return "flag"
    name = getattr(action.type, "__name__", "str")
    return TYPES.get(name, "str")


def files(say: Say) -> Files:
    """Yield the file of the installed releases, an option to a line."""
    table = derive()
    launchers = (
        f"  {json.dumps(name)}: [\n   " + ",\n   ".join(map(json.dumps, rows)) + "\n  ]"
        for name, rows in table["options"].items()
    )
    versions = json.dumps(table["versions"])
    yield (
        PATH,
        f'{{\n "versions": {versions},\n "options": {{\n' + ",\n".join(launchers) + "\n }\n}\n",
    )


def older_files(say: Say) -> Files:
    """Yield the options that older releases of accelerate's launcher have, each with the first release without it."""
    folders = {
        path.name.rpartition("-")[2]: path for path in Path(os.environ[FOLDER]).glob("accelerate-*")
    }
    releases = sorted(folders, key=release)
    say(f"accelerate: {len(releases)} releases")
    here = {row[0] for row in derive()["options"]["accelerate"]}
    held: dict[str, list[Any]] = {}
    until: dict[str, str] = {}
    abbreviates = ""
    for version in releases:
        text = (folders[version] / "accelerate/commands/launch.py").read_text(encoding="utf-8")
        found = {row[0]: row for row in _rows_as_text(ast.parse(text))}
        until.update({key: version for key in held if key not in found and key not in until})
        held.update(found)
        if not abbreviates and "allow_abbrev=False" in text:
            abbreviates = version
    rows = [json.dumps([*held[key], until[key]]) for key in sorted({*until} - here)]
    table = {
        "releases": f"{releases[0]} to {releases[-1]}",
        "abbreviates_until": abbreviates,
    }
    yield (
        OLDER,
        json.dumps(table, indent=1)[:-2]
        + ',\n "options": [\n  '
        + ",\n  ".join(rows)
        + "\n ]\n}\n",
    )


def _rows_as_text(tree: ast.Module) -> Iterator[list[Any]]:
    """Yield key, flags and kind of each option that a parser is given, in either spelling that later ones take."""
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and ast.unparse(node.func).endswith(".add_argument")):
            continue
        words = [str(each.value) for each in node.args if isinstance(each, ast.Constant)]
        flags = [word for word in words if word.startswith("-")]
        said = {each.arg: ast.unparse(each.value) for each in node.keywords}
        kind = TYPES.get(said.get("type", "str"), "str")
        if said.get("action") == "'store_true'":
            kind = "flag"
        if flags:
            key = flags[0].lstrip("-").replace("-", "_")
            yield [key, list(dict.fromkeys((*flags, f"--{key}".replace("_", "-")))), kind]
