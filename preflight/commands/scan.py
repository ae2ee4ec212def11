"""`scan`: every launch that stands in the files of a repository, or that changed files concern."""

from __future__ import annotations

import os
import sys

from preflight.commands.asked import known_remedies, request_from
from preflight.commands.launches import print_launches
from preflight.commands.options import (
    DOES_NOT_FIT,
    FITS,
    add_launch_options,
    add_output_options,
    unknown_remedies,
)
from preflight.commands.output import print_lines, tell_left_alone
from preflight.commands.parser import Parser
from preflight.commands.progress import SECONDS_BETWEEN_LINES, steps
from preflight.errors import BadInput, raise_if_any
from preflight.plugins import load_plugins
from preflight.repository.settings import find_repository, is_in_repository
from preflight.studies.scan import is_unjudged, scan_repository
from preflight.studies.searched_files import launch_files

NOT_JUDGED = 2
"""Nothing is said that launches could be judged by: a check that passes so would be none."""

EPILOG = """\
Launches are looked for in shell scripts, Makefiles, the examples of READMEs, workflows of GitHub,
tasks of SkyPilot and dstack, and manifests of Kubernetes. With FILES, only launches that stand in
one of them (or below it, a folder), or that name one of them (a config, a training script), are
checked: what a commit changes. Variables that only a shell knows leave a launch unchecked.

examples:
  preflight scan
  preflight scan --device h100-sxm-80 configs/fsdp2.yaml train.py
  preflight scan --format sarif > preflight.sarif
  preflight scan --format github           results at their lines, in a workflow of GitHub

exit: 0 no launch is refused; 1 one does not fit, or its files are wrong; 2 bad input, or no
device is known for any; 3 failed
"""


def parser(name: str) -> Parser:
    """Return what the command takes."""
    parser = Parser(
        name,
        "Check every launch of this repository, or those that some of its files concern.",
        "preflight scan [options] [FILES ...]",
        EPILOG,
    )
    parser.add_argument("files", metavar="FILES", nargs="*")
    add_launch_options(parser)
    add_output_options(parser, for_review=True)
    return parser


def run(name: str, args: list[str]) -> int:
    """Check the launches of the files; return 1 where one is refused."""
    options = parser(name).parse_args(args)
    folder = os.getcwd()
    missing = [path for path in options.files if not os.path.exists(path)]
    if missing:
        raise BadInput.one(
            f"there is no file {missing[0]}", fix="paths are relative to this folder"
        )
    repository = find_repository(folder)
    request = request_from(options, repository)
    plugins = load_plugins(folder, project_files=repository.hooks)
    raise_if_any(unknown_remedies(request.policy, known_remedies(plugins)))
    tell_left_alone(*repository.left_alone, *plugins.left_alone)
    _tell_where(folder)
    with steps("scanning", SECONDS_BETWEEN_LINES) as doing:
        files = launch_files(folder)
        found = scan_repository(
            folder, files.paths, options.files, plugins, request, repository.flags, doing
        )
        launches = list(found)
    print_launches(launches, files.left_out, options, sys.stdout)
    if any(launch.is_refused for launch in launches):
        return DOES_NOT_FIT
    if not is_unjudged(launches):
        return FITS
    if options.format in ("json", "sarif"):
        from preflight.render import scan as words

        print_lines([f"preflight: {words.NOT_JUDGED}"], sys.stderr)
    return NOT_JUDGED


def _tell_where(folder: str) -> None:
    """Say what is walked through where no repository bounds it: from `/`, that is the machine."""
    if not is_in_repository(folder):
        from preflight.render.page import page_for

        text = f"preflight: no repository is here: every folder below {folder} is looked into"
        print_lines(page_for(sys.stderr).wrap(text), sys.stderr)
