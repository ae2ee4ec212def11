"""Reading a dataset's rows: JSON lines with the standard library, Parquet and Arrow with pyarrow."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import IO, Any

from preflight.datasets.columns import Measure, kind_of_value
from preflight.errors import BadInput, Problem
from preflight.files import open_regular
from preflight.units import MIB

BATCH_ROWS = 4096
MAX_PROBLEMS = 10
"""Broken lines that are told of one file; after that, reading on is of no use."""

LONGEST_ROW_BYTES = 64 * MIB
"""Of JSON; a conversation with its pictures inside may have a few million."""

Progress = Callable[[float], None]
"""Told how much of a file is read, from 0 to 1."""


class JsonLines:
    """A file with a JSON object per line, `.gz` too."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.declared: Mapping[str, str] = {}
        """Columns that the file itself says are images, audio or videos: JSON says nothing."""
        with self._open() as file:
            self.kinds = self._kinds_of_first_row(file)

    def _open(self) -> IO[bytes]:
        if self.path.endswith(".gz"):
            import gzip

            return gzip.GzipFile(fileobj=open_regular(self.path))  # type: ignore[return-value]
        return open_regular(self.path)

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


class ArrowFile:
    """A Parquet file, or an Arrow one (stream, as `datasets` writes it, or file)."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._pyarrow = _pyarrow(path)
        schema = self._schema()
        self.kinds = {field.name: _kind_of_type(field.type, self._pyarrow) for field in schema}
        self.declared = _declared_modalities(schema.metadata or {})

    def _schema(self) -> Any:
        with self._reading():
            if self._is_parquet:
                return self._pyarrow.parquet.read_schema(self.path)
            return self._arrow_reader()[0].schema

    @property
    def _is_parquet(self) -> bool:
        with open_regular(self.path) as file:
            return file.read(4) == b"PAR1"

    def _reading(self) -> Any:
        """Return a context in which what pyarrow cannot read is bad input."""
        from contextlib import contextmanager

        @contextmanager
        def reading() -> Iterator[None]:
            try:
                yield
            # A damaged schema ends in plain errors of Python: names that are no UTF-8, sizes that are none.
            except (self._pyarrow.ArrowException, OSError, ValueError, OverflowError) as error:
                # A reason may span lines and name memory; the first line says what is wrong.
                reason = str(error).partition("\n")[0]
                raise BadInput.one(
                    f"not readable as Parquet or Arrow: {reason}", self.path
                ) from error

        return reading()

    def _arrow_reader(self) -> tuple[Any, Any]:
        source = self._pyarrow.memory_map(self.path)
        with open_regular(self.path) as file:
            is_file = file.read(6) == b"ARROW1"
        open_it = self._pyarrow.ipc.open_file if is_file else self._pyarrow.ipc.open_stream
        return open_it(source), source

    def _tables(self, columns: list[str], progress: Progress) -> Iterator[Any]:
        """Yield record batches with these columns."""
        if self._is_parquet:
            file = self._pyarrow.parquet.ParquetFile(self.path)
            total, done = max(1, file.metadata.num_rows), 0
            for batch in file.iter_batches(BATCH_ROWS, columns=columns):
                done += batch.num_rows
                progress(done / total)
                yield batch
            return
        reader, source = self._arrow_reader()
        size = max(1, source.size())
        if hasattr(reader, "num_record_batches"):
            for index in range(reader.num_record_batches):
                progress(index / reader.num_record_batches)
                yield reader.get_batch(index)
            return
        for batch in reader:
            progress(source.tell() / size)
            yield batch

    def batches(self, measure: Measure, progress: Progress) -> Iterator[list[Any]]:
        """Yield what measures each row, some rows at a time."""
        first = 1
        names = [*measure.columns, *(["tools"] if self._has_tools(measure) else [])]
        with self._reading():
            for batch in self._tables(names, progress):
                if measure.kind == "ids":
                    ids = batch.column(measure.columns[0])
                    values = self._pyarrow.compute.list_value_length(ids).to_pylist()
                else:
                    rows = batch.select(names).to_pylist()
                    values = [
                        value_of(row, measure, f"{self.path}: row {number}")
                        for number, row in enumerate(rows, first)
                    ]
                if None in values:
                    row = first + values.index(None)
                    raise BadInput.one(f"{measure.columns[0]} is empty", f"{self.path}: row {row}")
                first += len(values)
                yield values

    def _has_tools(self, measure: Measure) -> bool:
        return measure.kind == "chat" and "tools" in self.kinds


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


def value_of(row: Mapping[str, Any], measure: Measure, where: str) -> Any:
    """Return what measures a row: its length, its text, or its messages and tools."""
    for name in measure.columns:
        if row.get(name) is None:
            found = ", ".join(row) or "none"
            says = "is empty" if name in row else f"is missing; columns: {found}"
            raise BadInput.one(f"{name} {says}", where)
    value = row[measure.columns[0]]
    if measure.kind == "number":
        if type(value) is not int or value < 0:
            raise BadInput.one(
                f"{measure.columns[0]} must be a number of tokens, not {value!r}", where
            )
        return value
    wanted = str if measure.kind == "text" else list
    for name in measure.columns:
        if not isinstance(row[name], wanted):
            kind = "text" if wanted is str else "a list"
            raise BadInput.one(f"{name} must be {kind}, not {type(row[name]).__name__}", where)
    if measure.kind == "ids":
        return len(value)
    for name in measure.columns[1:]:
        value = value + row[name]
    return value if measure.kind == "text" else (value, row.get("tools"), where)


def _pyarrow(path: str) -> Any:
    import importlib

    try:
        pyarrow = importlib.import_module("pyarrow")
        for part in ("compute", "ipc", "parquet"):
            importlib.import_module(f"pyarrow.{part}")
    except ImportError as error:
        raise BadInput.one(
            "needs pyarrow to be read, which is not installed here",
            path,
            "pip install pyarrow, or give the lengths as JSON lines",
        ) from error
    return pyarrow


def _kind_of_type(kind: Any, pyarrow: Any) -> str:
    types = pyarrow.types
    if types.is_integer(kind):
        return "number"
    if types.is_string(kind) or types.is_large_string(kind):
        return "text"
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        if types.is_integer(kind.value_type):
            return "ids"
        if types.is_struct(kind.value_type):
            names = {kind.value_type.field(i).name for i in range(kind.value_type.num_fields)}
            return "chat" if {"role", "from"} & names else "other"
    return "other"


def _declared_modalities(metadata: Mapping[bytes, bytes]) -> dict[str, str]:
    """Return the columns that `datasets` wrote down as images, audio or videos, in the schema's metadata."""
    try:
        features = (
            json.loads(metadata.get(b"huggingface", b"{}")).get("info", {}).get("features", {})
        )
    except (ValueError, AttributeError):
        return {}  # Another tool's key of the same name.
    names = {"Image": "images", "Audio": "audio", "Video": "videos"}
    found = {}
    for column, feature in features.items():
        kinds = [names[t] for t in _feature_types(feature) if t in names]
        if kinds:
            found[str(column)] = kinds[0]
    return found


def _feature_types(feature: Any) -> Iterator[str]:
    if isinstance(feature, Mapping):
        if isinstance(feature.get("_type"), str):
            yield feature["_type"]
        children: Sequence[Any] = tuple(feature.values())
    else:
        children = feature if isinstance(feature, list) else ()
    for child in children:
        yield from _feature_types(child)
