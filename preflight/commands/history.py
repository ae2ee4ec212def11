"""`history`: what the measured runs of this site took, and what they correct."""

from __future__ import annotations

import re
import sys

from preflight.commands.options import FITS, add_output_options
from preflight.commands.output import print_json, print_lines
from preflight.commands.parser import Parser
from preflight.errors import BadInput
from preflight.records.folder import records_folder
from preflight.report import SCHEMA_VERSION

EPILOG = """\
Records are written by preflight.PreflightCallback and preflight.measure, in $PREFLIGHT_RECORDS,
else in preflight/ under $XDG_DATA_HOME or ~/.local/share (docs/embedding.md).

examples:
  preflight history
  preflight history --last 0 --format json
  PREFLIGHT_RECORDS=/shared/preflight preflight history

exit: 0 whatever the runs say; 2 bad input; 3 preflight failed
"""


def parser(name: str) -> Parser:
    """Return what the command takes."""
    parser = Parser(
        name,
        "Show the measured runs of this site, newest last, and the runtime terms that they correct.",
        "preflight history [options]",
        EPILOG,
    )
    parser.add_argument("--folder", metavar="FOLDER", help="in place of the folder named below")
    parser.add_argument(
        "--last", metavar="N", default="20", help="how many runs; 0 for all of them"
    )
    add_output_options(parser)
    return parser


def run(name: str, args: list[str]) -> int:
    """Print the runs of a folder; work out anew what they correct."""
    options = parser(name).parse_args(args)
    if not re.fullmatch(r"[0-9]{1,9}", options.last):
        raise BadInput.one(f"must be a whole number, not {options.last!r}", "--last")
    from preflight.records.run_store import read_records
    from preflight.records.site_correction import (
        corrections_of,
        runs_of,
        to_dict,
        write_corrections,
    )

    folder = options.folder or records_folder()
    records, unreadable = read_records(folder)
    # A folder that is only looked at is not written into: its corrections are its owner's.
    is_own = options.folder is None
    keep = write_corrections if is_own and records else corrections_of
    corrections = keep(records)
    runs, last = runs_of(records), int(options.last)
    if options.format == "json":
        shown = runs[-last:] if last else runs
        value = {
            "schema_version": SCHEMA_VERSION,
            "folder": folder,
            "runs": [[record.to_dict() for record in ranks] for ranks in shown],
            "num_unreadable": len(unreadable),
            "unreadable": list(unreadable),
            "corrections": {name: to_dict(c) for name, c in corrections.items()},
        }
        print_json(value, sys.stdout)
        return FITS
    from preflight.render.history import history_lines
    from preflight.render.page import page_for

    page = page_for(sys.stdout, options.color)
    print_lines(history_lines(runs, corrections, unreadable, folder, page, last), sys.stdout)
    return FITS
