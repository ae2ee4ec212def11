"""The records of a folder for a command, with progress: a site may have gigabytes of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from preflight.commands.progress import progress
from preflight.units import MIB

if TYPE_CHECKING:
    from preflight.records.run_index import RunIndex


@contextmanager
def indexed(folder: str) -> Iterator[RunIndex]:
    """Read the records of a folder; they can be asked inside."""
    from preflight.records.run_files import RecordFiles
    from preflight.records.run_index import RunIndex

    with RecordFiles(folder) as files:
        with progress(-(-files.num_bytes // MIB), "MiB of records") as done:
            index = RunIndex(files, lambda num_bytes: done(num_bytes // MIB))
        yield index
