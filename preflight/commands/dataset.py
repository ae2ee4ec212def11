"""`--dataset`: how long the rows of the files are, with progress."""

from __future__ import annotations

import os

from preflight.commands.progress import progress
from preflight.datasets.lengths import RowLengths, read_lengths
from preflight.units import MIB


def lengths_of(paths: tuple[str, ...], tokenizer: str | None, column: str | None) -> RowLengths:
    """Read all files of a dataset; show how far that is when it takes longer."""
    total_mib = max(1, sum(os.path.getsize(path) for path in paths if os.path.isfile(path)) // MIB)
    read: dict[str, float] = {}
    with progress(total_mib, "MiB of the dataset") as done:

        def tell(path: str, share: float) -> None:
            read[path] = share * os.path.getsize(path)
            done(int(sum(read.values())) // MIB)

        return read_lengths(paths, tokenizer, column, tell)
