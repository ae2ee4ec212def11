"""`slurm audit`: a folder of job scripts, or the controller's jobs, through the guard, which stops nothing."""

from __future__ import annotations

import os
import sys

from preflight.commands.options import FITS, add_output_options
from preflight.commands.output import print_json, print_lines
from preflight.commands.parser import Parser
from preflight.commands.progress import progress
from preflight.errors import BadInput

ABOUT = """\
Say what the guard would have done about jobs: the scripts of a folder, or, without one, the jobs that
the controller knows. Submits, stops and writes nothing. Scripts are read and never run."""
EPILOG = """\
examples:
  preflight slurm audit jobs/
  preflight slurm audit --format json > audit.json

exit: 0 whatever was found; 2 no such folder, or a Slurm that does not say what nodes there are
"""


def parser(name: str) -> Parser:
    """Return what the command takes."""
    parser = Parser(f"slurm {name}", ABOUT, f"preflight slurm {name} [options] [FOLDER]", EPILOG)
    parser.add_argument("folder", nargs="?", metavar="FOLDER", help="job scripts, or one of them")
    add_output_options(parser)
    return parser


def run(name: str, args: list[str]) -> int:
    """Audit and print; return the exit code."""
    options = parser(name).parse_args(args)
    from preflight.render.audit import audit_dict, audit_lines
    from preflight.render.page import page_for
    from preflight.slurm.audit import audited, jobs_of_controller, scripts_in
    from preflight.slurm.inventory import NoInventory, read_inventory

    env = {key: value for key, value in os.environ.items() if not key.startswith("SBATCH_")}
    found = scripts_in(options.folder, env) if options.folder else jobs_of_controller(env)
    try:
        inventory = read_inventory()
    except NoInventory as error:
        raise BadInput.one(
            f"Slurm does not say what nodes there are: {error}",
            fix="run it where scontrol or sinfo answers",
        ) from error
    jobs = []
    with progress(len(found), "jobs") as done:
        for one in found:
            jobs.append(audited(one, inventory))
            done(len(jobs))
    if options.format == "json":
        print_json(audit_dict(jobs), sys.stdout)
    else:
        page = page_for(sys.stdout, options.color)
        print_lines(audit_lines(jobs, page, options.verbose), sys.stdout)
    return FITS
