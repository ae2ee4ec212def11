"""`slurm audit`: a folder of job scripts, or jobs that Slurm knows, through the guard, which stops nothing."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

from preflight.commands.options import FITS, add_output_options
from preflight.commands.output import print_json, print_lines
from preflight.commands.parser import Parser
from preflight.commands.progress import progress, steps
from preflight.device import DeviceSpec
from preflight.errors import BadInput

if TYPE_CHECKING:
    from preflight.slurm.audit import Found

ABOUT = """\
Say what the guard would have done about jobs: the scripts of a folder, or, without one, the jobs that
the controller knows; with --since, those that Slurm's accounting knows, beside how each ended and its
GPU hours. Submits, stops and writes nothing. Scripts are read and never run."""
EPILOG = """\
examples:
  preflight slurm audit jobs/
  preflight slurm audit --device h100-sxm-80 jobs/
  preflight slurm audit --since now-7days
  preflight slurm audit --format json > audit.json

exit: 0 whatever was found; 2 no such folder, or a Slurm that does not say what nodes there are
"""


def parser(name: str) -> Parser:
    """Return what the command takes."""
    parser = Parser(f"slurm {name}", ABOUT, f"preflight slurm {name} [options] [FOLDER]", EPILOG)
    parser.add_argument("folder", nargs="?", metavar="FOLDER", help="job scripts, or one of them")
    parser.add_argument(
        "--device",
        metavar="NAME",
        help="judge the jobs of a folder for nodes with this GPU, without Slurm: a100-sxm-40, h100-sxm-80, NAME:GIB",
    )
    parser.add_argument(
        "--since",
        metavar="TIME",
        help="jobs that ran since then, from sacct (slurmdbd): 2026-11-01, now-7days",
    )
    add_output_options(parser)
    return parser


def run(name: str, args: list[str]) -> int:
    """Audit and print; return the exit code."""
    options = parser(name).parse_args(args)
    from preflight.render.audit import audit_dict, audit_lines
    from preflight.render.page import page_for
    from preflight.slurm.audit import audited
    from preflight.slurm.inventory import NoInventory, read_inventory

    env = {key: value for key, value in os.environ.items() if not key.startswith("SBATCH_")}
    found = _jobs(options.folder, options.since, env)
    device = None if options.device is None else device_named(options.device)
    inventory = None
    try:
        if device is None:
            inventory = read_inventory()
    except NoInventory as error:
        raise BadInput.one(
            f"Slurm does not say what nodes there are: {error}",
            fix="--device h100-sxm-80 takes nodes with that GPU; or run it where scontrol or sinfo answers",
        ) from error
    jobs = []
    with progress(len(found), "jobs") as done:
        for one in found:
            jobs.append(audited(one, inventory, device))
            done(len(jobs))
    if options.format == "json":
        print_json(audit_dict(jobs), sys.stdout)
    else:
        page = page_for(sys.stdout, options.color)
        print_lines(audit_lines(jobs, page, options.verbose), sys.stdout)
    return FITS


def _jobs(folder: str | None, since: str | None, env: Mapping[str, str]) -> list[Found]:
    """Return the jobs to audit: of a folder, of Slurm's accounting, or those that the controller knows."""
    from preflight.slurm.accounting import jobs_since
    from preflight.slurm.audit import jobs_of_controller, scripts_in

    if folder is not None and since is not None:
        raise BadInput.one("--since and a folder are two audits", "--since", "give one of them")
    if folder is not None:
        return scripts_in(folder, env)
    with steps("asking Slurm for its jobs and their scripts"):
        return jobs_of_controller(env) if since is None else jobs_since(since, env)


def device_named(name: str) -> DeviceSpec:
    """Return the GPU that a person names in place of a cluster; raise BadInput where nobody knows it."""
    from preflight.launch import LaunchPlan
    from preflight.plugins import load_plugins

    device: DeviceSpec | None = load_plugins().first(
        "preflight_describe_device", plan=LaunchPlan(device=name)
    )
    if device is None:
        raise BadInput.one(f"no device is known as {name}", f"--device {name}")
    return device
