"""`estimate`: the pipeline for a plan file, without any launcher."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from preflight.commands.asked import known_remedies, request_from
from preflight.commands.options import (
    DOES_NOT_FIT,
    FITS,
    add_launch_options,
    add_output_options,
    add_report_option,
    unknown_remedies,
)
from preflight.commands.output import print_report, save_page
from preflight.commands.parser import Parser
from preflight.errors import BadInput, Problem, raise_if_any
from preflight.formats.document import Document
from preflight.formats.load import read_data_file
from preflight.launch import LaunchPlan, Origin
from preflight.pipeline import check_plan
from preflight.plan_dict import plan_from_dict
from preflight.plugins import load_plugins
from preflight.studies.measured import with_config_of
from preflight.verdict import Answer

EPILOG = """\
PLAN.yaml is a mapping of plan fields, or {plan: ..., device: ..., models: {NAME: config}}.

examples:
  preflight estimate plan.yaml --device h100-sxm-80
  preflight estimate plan.yaml --set micro_batch_size=2 --format json

exit: 0 fits, tight or unknown; 1 does not fit; 2 bad input; 3 preflight failed
"""

NOT_IN_FILE = "default of plan files"
SHARDED_ENGINES = ("fsdp1", "fsdp2", "zero1", "zero2", "zero3")
FILE_KEYS = ("plan", "device", "models")


def parser(name: str) -> Parser:
    """Return what the command takes."""
    parser = Parser(
        name,
        "Estimate and judge a plan that is written down in a file.",
        "preflight estimate PLAN.yaml [options]",
        EPILOG,
    )
    parser.add_argument("plan", metavar="PLAN.yaml")
    add_launch_options(parser)
    add_report_option(parser)
    add_output_options(parser)
    return parser


def run(name: str, args: list[str]) -> int:
    """Estimate one plan file; return the exit code."""
    options = parser(name).parse_args(args)
    request = request_from(options, finds_room=True)
    plan = read_plan(read_data_file(options.plan))
    plugins = load_plugins(os.getcwd())
    raise_if_any(unknown_remedies(request.policy, known_remedies(plugins)))
    report = check_plan(plan, plugins, request)
    if options.report is not None:
        asked = (options.set, options.plan)
        save_page(options.report, report, "estimate", plugins, request.policy, *asked)
    print_report(report, "estimate", options, sys.stdout)
    return DOES_NOT_FIT if report.verdict.answer is Answer.DOES_NOT_FIT else FITS


def read_plan(file: Document) -> LaunchPlan:
    """Return the plan of a plan file, with the line of every value as its origin."""
    whole = file.value
    above: tuple[str, ...] = ()
    device: Any = None
    values: Mapping[str, Any] = whole
    if "plan" in whole:
        above = ("plan",)
        values = whole["plan"]
        raise_if_any(
            Problem(
                f"there is no key {key!r} beside plan",
                file.place(str(key)),
                f"known: {', '.join(FILE_KEYS)}",
            )
            for key in whole
            if key not in FILE_KEYS
        )
        if not isinstance(values, dict):
            raise BadInput.one("plan must be a mapping of plan fields", file.place("plan"))
        device = whole.get("device")
    places = {str(key): file.place(*above, str(key)) for key in values}
    plan = plan_from_dict(values, file.path, places)
    plan = with_config_of(plan, whole.get("models") if above else None)
    plan = _with_defaults(plan, values)
    if device is not None:
        plan = replace(plan, device=_device_name(device, file)).with_origin(
            "device", Origin(file.place("device"))
        )
    return plan


def _with_defaults(plan: LaunchPlan, given: Mapping[str, Any]) -> LaunchPlan:
    """Return the plan with what its file leaves open marked as assumed; a sharded engine shards over all ranks."""
    if "shard_degree" not in given and plan.engine in SHARDED_ENGINES:
        degree = max(1, plan.world_size // (plan.replicate_degree * plan.tensor_parallel_degree))
        plan = replace(plan, shard_degree=degree)
        plan = plan.with_origin("shard_degree", Origin(NOT_IN_FILE, True))
    for name in ("activation_checkpointing", "gradient_accumulation_steps", "optimizer"):
        if name not in given:
            plan = plan.with_origin(name, Origin(NOT_IN_FILE, True))
    return plan


def _device_name(device: Any, file: Document) -> str:
    """Return what `--device` would be for a plan file's device: a key, a name, or a mapping of both."""
    if isinstance(device, str):
        return device
    if isinstance(device, dict):
        name = device.get("key") or device.get("name") or "device"
        if isinstance(device.get("capacity_bytes"), int):
            return f"{device.get('name') or name}:{device['capacity_bytes'] / 1024**3}"
        if device.get("key") is None and isinstance(device.get("memory_gb"), (int, float)):
            return f"{name}:{device['memory_gb']}"
        return str(name)
    raise BadInput.one(
        "device must be a key of the GPU table, NAME:GIB, or a mapping with key or capacity_bytes",
        file.place("device"),
    )
