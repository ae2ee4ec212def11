"""`init`: files to start from: a launch that fits, a template, or the settings of a repository; never over a file."""

from __future__ import annotations

import sys
from typing import Any

from preflight.commands.init_files import write_files
from preflight.commands.options import FITS, add_output_options
from preflight.commands.output import print_json, print_lines
from preflight.commands.parser import Parser
from preflight.errors import BadInput
from preflight.launchers.all import launchers
from preflight.render.page import page_for
from preflight.report import SCHEMA_VERSION
from preflight.streams import say

EPILOG = """\
--model: the least that fits is looked for: sharding and checkpointing where they are needed,
the largest micro batch at the global batch. Each choice stands in the files with its reason;
they are read again, and written only if the launch fits.
--repo: read are the launches in *.sh, *.sbatch, *.slurm, Makefile and README, and the training
scripts that they start. Every line of the file says where it comes from; what is not known
stands there commented out.

examples:
  preflight init --model meta-llama/Llama-3.1-8B --gpu h100 --num-gpus 8 --output sft
  preflight init --model Qwen/Qwen3-32B --gpu l40s --num-gpus 16 --method qlora --slurm
  preflight init --template plugins/check.py
  preflight init --repo

exit: 0 written or printed; 2 bad input, nothing fits, or a file is there already
"""


def run(name: str, args: list[str]) -> int:
    """Write what is asked for; return the exit code."""
    options = parser(name).parse_args(args)
    asked = [
        word
        for word, value in (
            ("--model", options.model),
            ("--template", options.template),
            ("--list", options.list),
            ("--repo", options.repo),
        )
        if value
    ]
    if len(asked) != 1:
        raise BadInput.one(
            f"{' and '.join(asked)} are different things"
            if asked
            else "nothing is said to be written",
            fix="preflight init --model MODEL --gpu DEVICE --num-gpus N, --repo, --list or --template NAME",
        )
    if options.repo:
        from preflight.commands.init_repository import write_settings

        return write_settings(options)
    if options.model is not None:
        from preflight.commands.init_launch import write_launch

        return write_launch(options)
    return _list(options) if options.list else _copy(options)


def parser(name: str) -> Parser:
    """Return what the command takes."""
    parser = Parser(
        name,
        "Write files to start from: a launch that fits, one of the templates, or a first\n"
        "preflight.toml: what this repository's launches leave unsaid.",
        "preflight init --model MODEL --gpu DEVICE --num-gpus N [options]\n"
        "       preflight init --template NAME [options]\n"
        "       preflight init --list\n"
        "       preflight init --repo [FOLDER] [options]",
        EPILOG,
    )
    parser.add_argument("folder", nargs="?", default=".", metavar="FOLDER")
    group = parser.add_argument_group("what to write")
    group.add_argument(
        "--model",
        metavar="MODEL",
        help="a launch that fits: a hub id, or a folder with a config.json",
    )
    group.add_argument("--template", metavar="NAME", help="a copy of one template")
    group.add_argument("--list", action="store_true", help="write nothing: list the templates")
    group.add_argument("--repo", action="store_true", help="the repository's own settings")
    group = parser.add_argument_group("the launch")
    group.add_argument(
        "--gpu", "--device", metavar="DEVICE", help="a card of the GPU table, or NAME:GIB"
    )
    group.add_argument("--num-gpus", type=int, metavar="N", help="of all nodes together")
    group.add_argument(
        "--num-nodes", type=int, metavar="N", help="nodes (default: as few as hold 8 each)"
    )
    group.add_argument("--method", choices=("full", "lora", "qlora"), default="full")
    group.add_argument(
        "--seq-len", type=int, metavar="N", help="tokens of a sequence (default: 2048)"
    )
    group.add_argument(
        "--global-batch-size",
        type=int,
        metavar="N",
        help="sequences of an optimizer step (default: near 128)",
    )
    group.add_argument(
        "--engine",
        choices=("single", "ddp", "fsdp2", "hsdp", "zero2", "zero3"),
        help="this one, in place of ddp where it fits, else fsdp2 (torchrun: zero3)",
    )
    written = sorted(one.name for one in launchers() if one.template_engines)
    group.add_argument("--launcher", choices=tuple(written), default="accelerate")
    group.add_argument("--slurm", action="store_true", help="a job script too")
    group = parser.add_argument_group("where")
    group.add_argument(
        "--output", metavar="DIR", help="the folder to write to; made where it is not (default: .)"
    )
    group.add_argument("--print", action="store_true", help="print the files, write nothing")
    add_output_options(parser)
    return parser


def _list(options: Any) -> int:
    from preflight.studies.template_files import TEMPLATES

    if options.format == "json":
        rows = [
            {"name": name, "copied_as": copied, "about": about}
            for name, (copied, about) in TEMPLATES.items()
        ]
        print_json({"schema_version": SCHEMA_VERSION, "templates": rows}, sys.stdout)
        return FITS
    page = page_for(sys.stdout, options.color)
    lines = page.table([(name, about) for name, (_, about) in TEMPLATES.items()])
    last = "next: `preflight init --template NAME` copies one"
    print_lines([f"preflight: {len(TEMPLATES)} templates", *lines, last], sys.stdout)
    return FITS


def _copy(options: Any) -> int:
    from preflight.studies.template_files import TEMPLATES, template_text

    text = template_text(options.template)
    name, _ = TEMPLATES[options.template]
    files = {name: text}
    paths = [] if options.print else write_files(options.output or ".", files)
    if options.format == "json":
        value = {"schema_version": SCHEMA_VERSION, "paths": paths, "files": files}
        print_json(value, sys.stdout)
        return FITS
    if options.print:
        say(text, sys.stdout)
        return FITS
    print_lines([f"preflight: wrote {paths[0]}"], sys.stdout)
    return FITS
