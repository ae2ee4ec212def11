"""`probe`: what this node really has, or all nodes of an allocation, side by side."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from preflight.commands.options import FITS, add_output_options
from preflight.commands.output import print_json, print_lines
from preflight.commands.parser import Parser
from preflight.errors import BadInput
from preflight.report import SCHEMA_VERSION

SOMEBODY_MISSING = 1

EPILOG = """\
examples:
  preflight probe                                this node
  preflight probe --nodes                        every node of this Slurm allocation, through srun
  torchrun --nnodes 2 --nproc-per-node 1 --rdzv-backend c10d --rdzv-endpoint HOST:PORT \\
      -m preflight probe --gather                started on each node; the first one prints

Exit code 1: a node did not answer in time; it is named.
"""


def parser(name: str) -> Parser:
    """Return what the command takes."""
    parser = Parser(
        name, "Show what this node really has, or every node.", "preflight probe [options]", EPILOG
    )
    group = parser.add_argument_group("which nodes")
    group.add_argument(
        "--nodes", action="store_true", help="every node of this Slurm allocation, through srun"
    )
    group.add_argument(
        "--gather",
        action="store_true",
        help="this is one of several started by torchrun: the first prints what all have",
    )
    group.add_argument(
        "--timeout", metavar="SECONDS", default="60", help="how long nodes may take (default: 60)"
    )
    group = parser.add_argument_group("what to look at")
    group.add_argument("--checkpoints", metavar="FOLDER", help="a folder whose disk is asked too")
    group.add_argument("--compact", action="store_true", help="JSON on one line")
    add_output_options(parser)
    return parser


def run(name: str, args: list[str]) -> int:
    """Print what a node has, or what all have and where they differ."""
    options = parser(name).parse_args(args)
    timeout_s = _seconds(options.timeout)
    if options.nodes and options.gather:
        raise BadInput.one("--nodes and --gather are two ways to the same", fix="give one of them")
    from preflight.node.report import describe_node

    missing: tuple[str, ...] = ()
    if options.nodes:
        from preflight.commands.probe_nodes import through_srun

        nodes, missing = through_srun(os.environ, timeout_s, options.checkpoints)
    else:

        def describe() -> dict[str, Any]:
            return describe_node(os.environ, os.getcwd(), options.checkpoints)

        if options.gather:
            from preflight.commands.probe_nodes import through_store

            gathered = through_store(os.environ, timeout_s, describe)
            if gathered is None:
                return FITS  # the first node prints
            nodes, missing = gathered
        else:
            nodes = [describe()]
    _print(nodes, missing, options)
    return SOMEBODY_MISSING if missing else FITS


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 86400:
        raise BadInput.one(f"--timeout must be a number of seconds, not {text!r}")
    return seconds


def _print(nodes: list[dict[str, Any]], missing: tuple[str, ...], options: Any) -> None:
    from preflight.node.report import differences

    if options.format == "json":
        value = {
            "schema_version": SCHEMA_VERSION,
            "nodes": nodes,
            "missing": list(missing),
            "differences": differences(nodes),
        }
        if options.compact:
            print_lines([json.dumps(value)], sys.stdout)
        else:
            print_json(value, sys.stdout)
        return
    from preflight.render.nodes import node_lines, nodes_lines
    from preflight.render.page import page_for

    page = page_for(sys.stdout, options.color)
    if options.nodes or options.gather:
        print_lines(nodes_lines(nodes, missing, page), sys.stdout)
    else:
        print_lines(node_lines(nodes[0], page), sys.stdout)
