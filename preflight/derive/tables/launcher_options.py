"""launchers/option_table.json: every option of the launchers of accelerate, torch and DeepSpeed, by their own parsers."""

from __future__ import annotations

import argparse
import importlib
import json
from collections.abc import Iterator
from typing import Any
from unittest import mock

from preflight.derive.target import Files, Say

PATH = "preflight/launchers/option_table.json"

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
