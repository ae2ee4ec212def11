"""Reading a dataset's rows: JSON lines with the standard library; arrow_files.py has Parquet and Arrow."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from typing import IO, Any

from preflight.datasets.arrow_files import BATCH_ROWS, ArrowFile, Progress, value_of
from preflight.datasets.columns import Measure, kind_of_value
from preflight.errors import BadInput, Problem
from preflight.files import open_regular
from preflight.units import MIB

MAX_PROBLEMS = 10
"""Broken lines that are told of one file; after that, reading on is of no use."""

LONGEST_ROW_BYTES = 64 * MIB
"""Of JSON; a conversation with its pictures inside may have a few million."""


class JsonLines:
    """A file with a JSON object per line, `.gz` too."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.declared: Mapping[str, str] = {}
        """Columns that the file itself says are images, audio or videos: JSON says nothing."""
        with open_regular(path) as raw, self._over(raw) as file:
            self.kinds = self._kinds_of_first_row(file)

    def _kinds_of_first_row(self, file: IO[bytes]) -> dict[str, str]:
        for number, line in enumerate(_lines(file, self.path), 1):
            if not line.strip():
                continue
            if line.lstrip()[:1] == b"[":
                raise BadInput.of(
                    f"{self.path}:{number}",
                    "holds a JSON array, not an object per line",
                    f"jq -c '.[]' {self.path} > {self.path}l",
                )
            row = self._row(line, number)
            return {str(name): kind_of_value(value) for name, value in row.items()}
        raise BadInput.of(self.path, "has no rows")

    def _row(self, line: bytes, number: int) -> dict[str, Any]:
        where = f"{self.path}:{number}"
        try:
            row = json.loads(line)
        except UnicodeDecodeError as error:
            raise BadInput.of(where, "is not UTF-8 text") from error
        except json.JSONDecodeError as error:
            at = f"{error.msg}, column {error.colno}"
            fix = "" if number > 1 else "each line must be an object of its own"
            raise BadInput.one(f"not readable as JSON: {at}", where, fix) from error
        except (RecursionError, ValueError) as error:
            raise BadInput.one(f"not readable as JSON: {error}", where) from error
        if not isinstance(row, dict):
            raise BadInput.of(where, f"must hold an object per line, not {type(row).__name__}")
        return row

    def batches(self, measure: Measure, progress: Progress) -> Iterator[list[Any]]:
        """Yield what measures each row, some rows at a time; raise BadInput naming every broken line."""
        size = max(1, os.path.getsize(self.path))
        problems: list[Problem] = []
        batch: list[Any] = []
        with open_regular(self.path) as raw, self._over(raw) as file:
            for number, line in enumerate(_lines(file, self.path), 1):
                if not line.strip():
                    continue
                try:
                    row = self._row(line, number)
                    batch.append(value_of(row, measure, f"{self.path}:{number}"))
                except BadInput as error:
                    problems.extend(error.problems)
                    if len(problems) >= MAX_PROBLEMS:
                        break
                if len(batch) >= BATCH_ROWS:
                    progress(raw.tell() / size)
                    yield batch
                    batch = []
        if problems:
            raise BadInput(*problems)
        yield batch

    def _over(self, raw: IO[bytes]) -> IO[bytes]:
        """Return the lines of the open file, unpacked; its position tells how far we are."""
        if self.path.endswith(".gz"):
            import gzip

            return gzip.GzipFile(fileobj=raw)  # type: ignore[return-value]
        return raw


def _lines(file: IO[bytes], path: str) -> Iterator[bytes]:
    """Return the lines of a file; raise BadInput for one that is no row of anything: a few bytes of gzip may be gigabytes."""
    number = 0
    while line := file.readline(LONGEST_ROW_BYTES + 1):
        number += 1
        if len(line) > LONGEST_ROW_BYTES:
            raise BadInput.of(
                f"{path}:{number}", f"has more than {LONGEST_ROW_BYTES:,} bytes without a line end"
            )
        yield line


def open_dataset(path: str) -> JsonLines | ArrowFile:
    """Return the reader of a file, by its ending."""
    if os.path.isdir(path):
        raise BadInput.of(
            path,
            "is a folder; a dataset is read file by file",
            "give its files: --dataset FILE may be repeated",
        )
    try:
        open_regular(path).close()
    except OSError as error:
        raise BadInput.of(path, f"cannot be read: {error.strerror}") from error
    ending = os.path.splitext(path.removesuffix(".gz"))[1]
    if ending in (".jsonl", ".ndjson", ".json"):
        try:
            return JsonLines(path)
        except (OSError, EOFError) as error:
            raise BadInput.of(path, f"cannot be read: {error}") from error
    if ending in (".parquet", ".arrow", ".feather"):
        return ArrowFile(path)
    raise BadInput.of(
        path,
        f"is no kind of dataset that is read here: {ending or 'no ending'}",
        "one of .jsonl, .json (an object per line), .parquet, .arrow",
    )
