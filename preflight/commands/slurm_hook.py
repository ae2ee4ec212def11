"""`slurm hook`: the two variables that check every srun launch of a job before its first rank starts."""

from __future__ import annotations

import os
import sys

from preflight.commands.options import FITS, add_output_options
from preflight.commands.output import print_json, print_lines
from preflight.commands.parser import Parser
from preflight.errors import BadInput
from preflight.printable import shell_word
from preflight.report import SCHEMA_VERSION
from preflight.slurm.step_hook import FOLDER, write_hook

EPILOG = """\
In a job script, before any srun:
  eval "$(preflight slurm hook)"

Each srun of a known launch is then judged on the smallest GPU that the job really got; one that
does not fit ends before a task starts. What cannot be judged starts. PREFLIGHT=off turns it off.

exit: 0 done; 2 the folder cannot be written
"""


def parser(name: str) -> Parser:
    """Return what the command takes."""
    parser = Parser(
        f"slurm {name}",
        "Write two scripts and print the variables with which srun runs them.",
        "preflight slurm hook [--dir DIR]",
        EPILOG,
    )
    parser.add_argument(
        "--dir", metavar="DIR", help=f"a folder that all nodes of the job see (default: {FOLDER})"
    )
    add_output_options(parser)
    return parser


def run(name: str, args: list[str]) -> int:
    """Write the two scripts and print the variables that name them, for a shell to evaluate."""
    options = parser(name).parse_args(args)
    folder = os.path.abspath(options.dir or FOLDER)
    from preflight.slurm.stamping import cluster_facts

    # A prolog of a step's own replaces the site's; a task prolog comes after it.
    prolog = os.environ.get("SLURM_PROLOG") or cluster_facts(os.environ).get("SrunProlog", "")
    task_prolog = os.environ.get("SLURM_TASK_PROLOG", "")
    try:
        variables = write_hook(folder, prolog, task_prolog)
    except OSError as error:
        raise BadInput.one(
            f"{folder} cannot be written: {error.strerror}", "--dir", "a folder that can"
        ) from error
    if options.format == "json":
        print_json({"schema_version": SCHEMA_VERSION, "variables": variables}, sys.stdout)
    else:
        print_lines([f"export {n}={shell_word(p)}" for n, p in variables.items()], sys.stdout)
    return FITS
