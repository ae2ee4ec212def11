"""`history`: what the measured runs of this site took, and what they correct."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from preflight.commands.options import FITS, add_output_options
from preflight.commands.output import print_json_list, print_lines
from preflight.commands.parser import Parser
from preflight.commands.progress import progress
from preflight.errors import BadInput
from preflight.records.folder import records_folder
from preflight.report import SCHEMA_VERSION
from preflight.units import MIB

if TYPE_CHECKING:
    from preflight.records.compaction import Compacted
    from preflight.records.run_index import RunIndex
    from preflight.records.site_correction import Correction

EPILOG = """\
Records are written by preflight.PreflightCallback and preflight.measure, in $PREFLIGHT_RECORDS,
else in preflight/ under $XDG_DATA_HOME or ~/.local/share.
The page embedding.md of the documentation says what is in them.

examples:
  preflight history
  preflight history --last 0 --format json
  preflight history --compact
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
    parser.add_argument(
        "--compact",
        action="store_true",
        help="first rewrite your files of this host without lines that were replaced; no record is lost",
    )
    add_output_options(parser)
    return parser


def run(name: str, args: list[str]) -> int:
    """Print the runs of a folder; work out anew what they correct."""
    options = parser(name).parse_args(args)
    if not re.fullmatch(r"[0-9]{1,9}", options.last):
        raise BadInput.of("--last", f"must be a whole number, not {options.last!r}")
    from preflight.commands.records import indexed
    from preflight.records.found_corrections import corrections_of
    from preflight.records.site_correction import write_corrections

    folder, last = options.folder or records_folder(), int(options.last)
    compacted = _compacted(folder) if options.compact else ()
    with indexed(folder) as index:
        corrections = corrections_of(index.finished())
        # A folder that is only looked at is not written into: its corrections are its owner's.
        if options.folder is None and len(index):
            write_corrections(corrections)
        _show(index, last, corrections, compacted, folder, options)
    return FITS


def _compacted(folder: str) -> tuple[Compacted, ...]:
    from preflight.records.compaction import compact, own_files

    done = []
    for path in own_files(folder):
        total = -(-2 * os.path.getsize(path) // MIB)
        with progress(total, "MiB of records, read and written") as tell:
            try:
                done.append(compact(path, lambda num_bytes: tell(num_bytes // MIB)))
            except OSError as error:
                raise BadInput.one(
                    f"{path} stays as it is: {error.strerror}", "--compact"
                ) from error
    return tuple(done)


def _show(
    index: RunIndex,
    last: int,
    corrections: Mapping[str, Correction],
    compacted: Sequence[Compacted],
    folder: str,
    options: Any,
) -> None:
    from preflight.records.site_correction import to_dict

    runs = index.runs(last)
    if options.format == "json":
        print_json_list(
            {"schema_version": SCHEMA_VERSION, "folder": folder},
            "runs",
            ([record.to_dict() for record in ranks] for ranks in runs),
            {
                "num_unreadable": index.num_unreadable,
                "unreadable": index.unreadable,
                "corrections": {name: to_dict(c) for name, c in corrections.items()},
                **({"compacted": list(map(asdict, compacted))} if options.compact else {}),
            },
            sys.stdout,
        )
        return
    from preflight.render.history import compaction_lines, history_lines
    from preflight.render.page import page_for

    page = page_for(sys.stdout, options.color)
    if options.compact:
        print_lines(compaction_lines(compacted, page), sys.stdout)
    for lines in history_lines(
        len(index), runs, corrections, index.unreadable, index.num_unreadable, folder, page
    ):
        print_lines(lines, sys.stdout)
