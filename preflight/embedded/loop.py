"""`preflight.measure()`: the context manager around a training loop of one's own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import IO, Any

from preflight.embedded.measurement import Measurement, outcome_of
from preflight.embedded.recorder import BETWEEN
from preflight.records.run_record import RunRecord

PHASES = ("evaluation", "save")


class measure:
    """Measure what happens inside `with`, and write it down at its end.

    Forward and backward are told by hooks on `model`, the step by hooks on a torch optimizer;
    `phase("save")` and `phase("evaluation")` name what no hook tells. Without a model the load phase
    is measured too, until `watch(model, optimizer)`.
    """

    def __init__(
        self,
        model: Any = None,
        *,
        optimizer: Any = None,
        args: Any = None,
        accelerator: Any = None,
        micro_batch_size: int | None = None,
        seq_len: int | None = None,
        device: str | None = None,
        cpu_limit_bytes: int | None = None,
        folder: str | None = None,
        report_to: IO[str] | None = None,
    ) -> None:
        self._model, self._optimizer = model, optimizer
        self._held = Measurement(
            args=args,
            accelerator=accelerator,
            micro_batch_size=micro_batch_size,
            seq_len=seq_len,
            device=device,
            cpu_limit_bytes=cpu_limit_bytes,
            folder=folder,
            report_to=report_to,
        )

    def __enter__(self) -> measure:
        self._held.start(self._model, self._optimizer)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._held.finish(outcome_of(error), error)

    @property
    def record(self) -> RunRecord | None:
        """What was written down, once there is something."""
        return self._held.record

    def watch(self, model: Any, optimizer: Any = None) -> None:
        """Begin with the steps of a model that was loaded inside `with`."""
        if self._held.recorder is not None:
            self._held.recorder.enter(BETWEEN)
        self._held.watch(model, optimizer)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Name what happens inside: `evaluation` or `save`."""
        if name not in PHASES:
            raise ValueError(f"a phase is one of {', '.join(PHASES)}, not {name!r}")
        recorder = self._held.recorder
        if recorder is None:
            yield  # nothing is measured, and that was said
            return
        recorder.enter(name)
        yield
        recorder.enter(BETWEEN)
