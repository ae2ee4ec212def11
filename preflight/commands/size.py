"""`size`: the sizing worksheet of a model, before there is a launch."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence

from preflight.commands.options import (
    FITS,
    add_online_option,
    add_report_option,
    prices_from,
    settings_from,
)
from preflight.commands.output import print_json, print_lines, tell_left_alone, write_page
from preflight.commands.parser import Parser
from preflight.devices.gpu_table import card_key
from preflight.errors import BadInput
from preflight.plugins import load_plugins
from preflight.report import SCHEMA_VERSION
from preflight.streams import say
from preflight.studies.sizing import DEVICES, SEQ_LENS, SizingRequest, size

EPILOG = """\
MODEL is a hub id of the registry, or a folder with a config.json, or such a file.

examples:
  preflight size meta-llama/Llama-3.1-8B
  preflight size Qwen/Qwen2.5-32B --gpu h100 --gpu l40s --seq-len 4096
  preflight size meta-llama/Llama-3.1-70B --all --budget 20
  preflight size Qwen/Qwen3-8B --compare Qwen/Qwen3-14B Qwen/Qwen3-32B --format md

exit: 0; 2 bad input; 3 preflight failed
"""


def parser(name: str) -> Parser:
    """Return what the command takes."""
    parser = Parser(
        name,
        "What full training, LoRA and QLoRA of a model take: memory on one device by what it\n"
        "holds, the smallest card, the fewest of each card when sharded, and dollars.",
        "preflight size MODEL [options]",
        EPILOG,
    )
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument(
        "--compare",
        action="extend",
        nargs="+",
        default=[],
        metavar="MODEL",
        help="other models, side by side; with --long or -v each with a worksheet of its own",
    )
    parser.add_argument(
        "--gpu",
        action="append",
        default=[],
        metavar="DEVICE",
        help=f"a card to count, by key or alias of the GPU table; repeatable (default: {', '.join(DEVICES)})",
    )
    parser.add_argument(
        "--seq-len",
        action="append",
        default=[],
        type=int,
        metavar="N",
        help=f"tokens of a sequence; repeatable (default: {', '.join(map(str, SEQ_LENS))})",
    )
    parser.add_argument(
        "--micro-batch-size", type=int, default=1, metavar="N", help="sequences a rank (default: 1)"
    )
    parser.add_argument("--all", action="store_true", help="rows for DoRA and 8-bit optimizers too")
    parser.add_argument(
        "--long",
        action="store_true",
        help="every length, with and without checkpointing, and dollars a million tokens",
    )
    parser.add_argument(
        "--budget",
        type=float,
        metavar="USD",
        help="leave out what costs more dollars an hour; unpriced cards too",
    )
    parser.add_argument(
        "--prices",
        metavar="FILE",
        help="dollars per GPU and hour in place of the listed ones, as YAML or JSON: `h100-sxm-80: 2.5`",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="a plan value in place of the assumed one: load_dtype=bf16, adapter.rank=64",
    )
    add_online_option(parser)
    add_report_option(parser, "every row")
    group = parser.add_argument_group("output")
    group.add_argument("--format", choices=("text", "json", "csv", "md"), default="text")
    group.add_argument("-v", "--verbose", action="store_true", help="what is taken for granted")
    group.add_argument("--color", choices=("auto", "always", "never"), default="auto")
    return parser


def run(name: str, args: list[str]) -> int:
    """Print the worksheet of one model or several."""
    options = parser(name).parse_args(args)
    for option, values in (
        ("--seq-len", options.seq_len),
        ("--micro-batch-size", [options.micro_batch_size]),
    ):
        if any(value < 1 for value in values):
            raise BadInput.one(f"{option} must be at least 1, not {min(values)}", option)
    request = SizingRequest(
        tuple(dict.fromkeys(options.seq_len)) or SEQ_LENS,
        options.micro_batch_size,
        tuple(dict.fromkeys(map(card_key, options.gpu))) or DEVICES,
        options.all,
        settings_from(options.set),
        prices_from(options),
        os.getcwd(),
    )
    plugins = load_plugins(os.getcwd())
    tell_left_alone(*plugins.left_alone)
    if options.online:
        from preflight.models.download import download_config

        for model in (options.model, *options.compare):
            failure = download_config(model, os.getcwd())
            if failure:
                say(f"note: {failure}\n")
    sheets = [size(model, request, plugins) for model in (options.model, *options.compare)]
    if options.report is not None:
        from preflight.render.html_worksheet import worksheet_html

        write_page(options.report, worksheet_html(sheets, options.budget))
    if options.format == "json":
        first, *others = [sheet.to_dict() for sheet in sheets]
        compared = {"compare": others} if others else {}
        print_json({"schema_version": SCHEMA_VERSION, **first, **compared}, sys.stdout)
        return FITS
    from preflight.render.page import page_for
    from preflight.render.worksheet import compared_lines, csv_text, markdown_lines, worksheet_lines

    if options.format == "csv":
        say(csv_text(sheets), sys.stdout)
    elif options.format == "md":
        print_lines(_joined(markdown_lines(sheet, options.budget) for sheet in sheets), sys.stdout)
    else:
        page = page_for(sys.stdout, options.color)
        parts = [compared_lines(sheets, page)] if len(sheets) > 1 else []
        if len(sheets) == 1 or options.long or options.verbose:
            parts += [
                worksheet_lines(s, page, options.budget, options.verbose, options.long)
                for s in sheets
            ]
        print_lines(_joined(parts), sys.stdout)
    return FITS


def _joined(parts: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of all parts with an empty line between them."""
    lines: list[str] = []
    for part in parts:
        lines += ["", *part] if lines else part
    return lines
