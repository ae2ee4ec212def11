"""Reading the rows of a Parquet or an Arrow file, with pyarrow."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from preflight.datasets.columns import Measure
from preflight.errors import BadInput
from preflight.files import open_regular

BATCH_ROWS = 4096
Progress = Callable[[float], None]
"""Told how much of a file is read, from 0 to 1."""


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
