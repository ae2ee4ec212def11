"""`gpus`: the cards that --device and --gpu know, and how much of each torch can have."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Any

from preflight.commands.options import FITS, add_output_options
from preflight.commands.output import print_json, print_lines
from preflight.commands.parser import Parser
from preflight.devices.gpu_table import GpuEntry, gpu_table, plain_name, similar_gpus
from preflight.devices.prices import listed_prices
from preflight.errors import BadInput
from preflight.render.page import page_for
from preflight.render.words import counted
from preflight.report import SCHEMA_VERSION

EPILOG = """\
KEY is what --device and --gpu take; a name of the driver, a short name (h100, 4090) or a type of
Slurm's works too, and NAME:GIB is a card that is not listed. `usable` is what torch can have in
GiB (1024^3 bytes), before the CUDA context and without a margin.

examples:
  preflight gpus             all of them
  preflight gpus h100        those whose key, name or short names have the word
  preflight gpus amd --format json
"""


def parser(name: str) -> Parser:
    """Return what the command takes."""
    parser = Parser(
        name,
        "List the cards that are known: key, name, memory, and what torch can have of it.",
        "preflight gpus [WORD ...]",
        EPILOG,
    )
    parser.add_argument("words", nargs="*", metavar="WORD")
    add_output_options(parser)
    return parser


def run(name: str, args: list[str]) -> int:
    """Print the table, or the rows that a word is in."""
    options = parser(name).parse_args(args)
    found = [entry for entry in gpu_table() if all(_has(entry, word) for word in options.words)]
    if not found:
        raise _no_card(" ".join(options.words))
    if options.format == "json":
        value = {"schema_version": SCHEMA_VERSION, "gpus": [_to_dict(entry) for entry in found]}
        print_json(value, sys.stdout)
        return FITS
    page = page_for(sys.stdout, options.color)
    head = ("key", "memory", "usable", "bf16", "fp8", "name")
    rows = [head, *(_row(entry) for entry in found)]
    lines = [f"preflight: {counted(len(found), 'card')}", *page.table(rows, right=(1, 2))]
    if options.verbose:
        for entry in found:
            notes = (f"also {', '.join(entry.aliases)}", entry.torch_total_source, entry.note)
            lines += page.wrap(f"{entry.key}: {'; '.join(filter(None, notes))}", "  ", "    ")
    lines.append(f"next: preflight check --device {found[0].key} -- COMMAND")
    print_lines(lines, sys.stdout)
    return FITS


def _has(entry: GpuEntry, word: str) -> bool:
    texts = (entry.key, entry.name, entry.device_name, entry.vendor, entry.arch, *entry.aliases)
    return any(plain_name(word) in plain_name(text) for text in texts)


def _no_card(name: str) -> BadInput:
    near = similar_gpus(name)
    fix = f"did you mean {' or '.join(near)}? " if near else ""
    return BadInput.one(
        f"no card is called {name!r}",
        fix=f"{fix}`preflight gpus` lists all, and NAME:GIB is one that is not listed",
    )


def _row(entry: GpuEntry) -> tuple[str, ...]:
    usable = entry.torch_total_gib
    return (
        entry.key,
        f"{entry.marketing_gb} GB",
        "unknown" if usable is None else f"{usable:.1f} GiB",
        "yes" if entry.bf16 else "no",
        "yes" if entry.fp8 else "no",
        entry.name,
    )


def _to_dict(entry: GpuEntry) -> dict[str, Any]:
    price = listed_prices().get(entry.key)
    dollars = None if price is None else price.usd_per_hour
    return {**asdict(entry), "capacity_bytes": entry.capacity_bytes, "usd_per_hour": dollars}
