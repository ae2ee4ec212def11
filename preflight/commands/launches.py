"""`check`, `run` and `fix` of a command that hands a file to a shell or a scheduler: every launch of the file is told."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import IO, Any

from preflight.commands.output import print_json, print_lines, print_review
from preflight.errors import BadInput
from preflight.studies.scan import ScannedLaunch


def print_launches(
    launches: Sequence[ScannedLaunch], left_out: Sequence[str], options: Any, stream: IO[str]
) -> None:
    """Print launches in the format that was asked for, a line for each and what that means."""
    if options.format in ("sarif", "github"):
        from preflight.render.sarif import Log

        log = Log(os.getcwd())
        for launch in launches:
            if launch.report is not None:
                log.add_report(launch.report, launch.where)
            log.add_problems(launch.problems, launch.where)
        print_review(log, options.format)
    if options.format == "json":
        from preflight.render.scan import scan_to_dict

        print_json(scan_to_dict(launches, left_out), stream)
    elif options.format != "sarif":
        from preflight.render.page import page_for
        from preflight.render.scan import scan_lines

        lines = scan_lines(launches, page_for(stream, options.color), options.verbose, left_out)
        print_lines(lines, stream)


def refuse_several(name: str, launches: Sequence[ScannedLaunch], options: Any) -> None:
    """Raise BadInput where something is asked of several launches that can be answered of one alone."""
    if len(launches) == 1:
        return
    what = "fix rewrites" if name == "fix" else "--report shows" if options.report else ""
    if what:
        places = ", ".join(launch.where for launch in launches)
        raise BadInput.one(
            f"{what} one launch, and there are {len(launches)}: {places}",
            launches[0].path,
            f"preflight {name} -- COMMAND, with the words of one of them",
        )
