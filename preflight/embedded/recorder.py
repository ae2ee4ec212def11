"""Follows one training through its phases, and knows at any moment what each of them took."""

from __future__ import annotations

import os
import resource
import time
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from preflight.embedded.counters import CpuCounters, CudaCounters
from preflight.records.run_record import RUNNING, RunRecord
from preflight.records.run_store import host_name

LOAD, FORWARD, BACKWARD, STEP = "load", "forward", "backward", "optimizer_step"
SECOND, EVALUATION, SAVE, BETWEEN = "second_step", "evaluation", "save", "between"
"""Phases as a process can tell them apart. The loss of a plan is the end of forward and the begin of backward."""


class Recorder:
    """Peaks by phase. Every change of phase reads and resets two counters, and does nothing else."""

    def __init__(self, counters: CudaCounters | CpuCounters, first_phase: str = BETWEEN) -> None:
        self.counters = counters
        self.phases: dict[str, dict[str, int]] = {}
        self.num_steps = 0
        self.phase = first_phase
        self.outside_bytes: int | None = None
        self.micro_batch_size = 0
        self.seq_len = 0
        self.started = _now()
        self.after_step: Callable[[], None] = _nothing
        """Called behind every optimizer step that a hook told of."""
        self._handles: list[Any] = []

    def enter(self, phase: str) -> None:
        """Begin a phase; what was most since the one before began belongs to that one."""
        self._close()
        self.phase = phase

    def _close(self) -> None:
        peaks = self.counters.take()
        held = self.phases.setdefault(self.phase_name(), {})
        for counter, value in peaks.items():
            held[counter] = max(value, held.get(counter, 0))

    def phase_name(self) -> str:
        """Return the name of the phase that is open: forward and backward are the first step's, later ones have a name together."""
        if self.num_steps and self.phase in (FORWARD, BACKWARD):
            return SECOND
        return self.phase

    def step_done(self) -> None:
        """Count an optimizer step; the time until the next forward is of no phase."""
        self.enter(BETWEEN)
        self.num_steps += 1

    def look_outside(self) -> None:
        """Ask the driver what is in use beside torch: between steps, never in one."""
        outside = self.counters.outside()
        if outside is not None:
            self.outside_bytes = max(outside, self.outside_bytes or 0)

    def watch_model(self, model: Any) -> None:
        """Tell forward, backward and evaluation apart by the outermost module's own hooks."""

        def before(module: Any, args: Any, kwargs: Any) -> None:
            if module.training:
                self._see(args, kwargs)
            self.enter(FORWARD if module.training else EVALUATION)

        def after(module: Any, args: Any, kwargs: Any, result: Any) -> None:
            if module.training:
                self.enter(BACKWARD)

        self._handles.append(
            model.register_forward_pre_hook(before, prepend=True, with_kwargs=True)
        )
        self._handles.append(model.register_forward_hook(after, with_kwargs=True))

    def watch_optimizer(self, optimizer: Any) -> None:
        """Tell the optimizer step by its own hooks, where it is one of torch's."""
        while hasattr(optimizer, "optimizer"):
            optimizer = optimizer.optimizer
        if not hasattr(optimizer, "register_step_pre_hook"):
            return

        def before(*_: Any) -> None:
            self.enter(STEP)

        def after(*_: Any) -> None:
            self.step_done()
            self.after_step()

        self._handles.append(optimizer.register_step_pre_hook(before))
        self._handles.append(optimizer.register_step_post_hook(after))

    def _see(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Keep the shape of the largest batch: rows and tokens."""
        ids = kwargs.get("input_ids", args[0] if args else None)
        shape: tuple[Any, ...] = tuple(getattr(ids, "shape", ()))
        if len(shape) == 2:
            self.micro_batch_size = max(self.micro_batch_size, int(shape[0]))
            self.seq_len = max(self.seq_len, int(shape[1]))

    def stop(self) -> None:
        """Close the phase that is open, and take every hook away."""
        self._close()
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def record(self, run_id: str, outcome: str = RUNNING, **more: Any) -> RunRecord:
        """Return what is known so far as a record."""
        phases = {name: dict(peaks) for name, peaks in self.phases.items() if any(peaks.values())}
        if self.outside_bytes is not None:
            for peaks in phases.values():
                peaks["device"] = peaks.get("reserved", 0) + self.outside_bytes
        return RunRecord(
            run_id=run_id,
            rank=_count("RANK", 0),
            world_size=_count("WORLD_SIZE", 1),
            host=host_name(),
            started=self.started,
            outcome=outcome,
            ended="" if outcome == RUNNING else _now(),
            num_steps=self.num_steps,
            device=self.counters.device(),
            phases=phases,
            host_peak_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            outside_bytes=self.outside_bytes,
            **more,
        )


def _nothing() -> None:
    pass


def new_run_id() -> str:
    """Return a name for this run, the same on all its ranks where they have met.

    Rank 0 leaves it in the store that the ranks met at. That is no collective operation: a rank
    that finds none soon takes a name of its own.
    """
    own = uuid.uuid4().hex[:16]
    try:
        import torch.distributed as dist

        if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
            return own
        from torch.distributed.distributed_c10d import _get_default_store

        store: Any = _get_default_store()
        _COUNTED.append(own)
        key = f"preflight-run-{len(_COUNTED)}"
        if dist.get_rank() == 0:
            store.set(key, own)
        else:
            store.wait([key], timedelta(seconds=MEETING_S))
        return str(store.get(key).decode())
    except (ImportError, RuntimeError, ValueError):
        return own


MEETING_S = 30.0
_COUNTED: list[str] = []
"""Names of the runs of this process: the second run of a notebook is not the first."""


def _count(name: str, default: int) -> int:
    text = os.environ.get(name, "")
    return int(text) if text.isdecimal() else default


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
