"""`validate`: predictions beside measured runs."""

from __future__ import annotations

import os
import sys

from preflight.commands.options import FITS, add_output_options, add_report_option
from preflight.commands.output import (
    print_json,
    print_lines,
    tell_left_alone,
    write_asked,
    write_page,
)
from preflight.commands.parser import Parser
from preflight.commands.progress import progress
from preflight.errors import BadInput
from preflight.formats.load import read_data_file
from preflight.plugins import load_plugins
from preflight.studies.measured import MeasuredRun, read_runs
from preflight.studies.validate import validate_runs

EPILOG = """\
RUNS.yaml is {schema: 1, models: {NAME: config}, runs: [{id, group, plan, device, measured}]};
`measured` has outcome (value, fits, oom), and for a value counter and peak_bytes.
--history takes the runs that PreflightCallback and preflight.measure recorded on this site.
Each counter (allocated, reserved, device) is compared only with the level of its name; a run that
has several counts once for each.

examples:
  preflight validate tests/measured/runs-dev.yaml tests/measured/runs-dev-2.yaml
  preflight validate runs.yaml --plot runs.svg --worst 3
  preflight validate runs.yaml --format json
  preflight validate --history

exit: 0 whatever the errors are; 2 bad input; 3 preflight failed
"""


def parser(name: str) -> Parser:
    """Return what the command takes."""
    parser = Parser(
        name,
        "Estimate every measured run of a file, and show how far off the estimates are.",
        "preflight validate RUNS.yaml ... | --history [options]",
        EPILOG,
    )
    parser.add_argument("runs", metavar="RUNS.yaml", nargs="*")
    parser.add_argument(
        "--history", action="store_true", help="this site's own records, in place of a file"
    )
    parser.add_argument(
        "--plot", metavar="FILE.svg", help="draw predicted against measured, every run a mark"
    )
    parser.add_argument(
        "--worst",
        type=whole_number,
        default=0,
        metavar="N",
        help="the N worst scored runs, and all wrong verdicts, with the terms that make them",
    )
    add_report_option(parser, "every run")
    add_output_options(parser)
    return parser


def run(name: str, args: list[str]) -> int:
    """Validate one file of runs; return the exit code."""
    options = parser(name).parse_args(args)
    if options.plot is not None:
        refuse_other_than_svg(options.plot)
    runs = _runs(options.runs, options.history)
    plugins = load_plugins(os.getcwd())
    tell_left_alone(*plugins.left_alone)
    with progress(len(runs), "runs") as done:
        validation = validate_runs(runs, plugins, done)
    if options.plot is not None:
        from preflight.render.scatter import scatter_svg

        write_asked(options.plot, scatter_svg(validation), "--plot")
    if options.report is not None:
        from preflight.render.html_validation import validation_html

        write_page(options.report, validation_html(validation, options.worst))
    if options.format == "json":
        print_json(validation.to_dict(options.worst), sys.stdout)
        return FITS
    from preflight.render.page import page_for
    from preflight.render.validation import validation_lines

    page = page_for(sys.stdout, options.color)
    print_lines(validation_lines(validation, page, options.verbose, options.worst), sys.stdout)
    return FITS


def _runs(paths: list[str], is_own: bool) -> tuple[MeasuredRun, ...]:
    if bool(paths) is is_own:
        raise BadInput.one("give files of runs, or --history", fix="preflight validate RUNS.yaml")
    if paths:
        return tuple(run for path in paths for run in read_runs(read_data_file(path)))
    from preflight.commands.records import indexed
    from preflight.records.folder import records_folder
    from preflight.studies.own_runs import measured_runs

    with indexed(records_folder()) as index:
        runs = measured_runs(index.runs())
    if not runs:
        raise BadInput.one(
            "no finished run is recorded",
            records_folder(),
            "preflight.PreflightCallback() or preflight.measure() records one",
        )
    return runs


def whole_number(text: str) -> int:
    """Return the number of an option's text."""
    try:
        number = int(text)
    except ValueError:
        number = -1
    if number < 0:
        raise BadInput.of("--worst", f"must be a whole number, not {text!r}")
    return number


def refuse_other_than_svg(path: str) -> None:
    """Raise BadInput for a picture that we cannot write."""
    if path.endswith(".svg"):
        return
    raise BadInput.one(
        f"--plot writes SVG, and {path} does not end in .svg",
        "--plot",
        "write FILE.svg; for a PNG, convert it: rsvg-convert FILE.svg -o FILE.png",
    )
