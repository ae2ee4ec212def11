"""One measured run of this process: what is watched, what is written down at its end, and what is said about it."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from typing import IO, Any

from preflight.embedded.counters import CpuCounters, CudaCounters, counters_for
from preflight.embedded.guard import check_live, is_first_rank
from preflight.embedded.live_plan import live_plan
from preflight.embedded.prediction import predicted_phases
from preflight.embedded.recorder import BETWEEN, LOAD, Recorder, new_run_id
from preflight.embedded.run_lines import live_line, summary_line
from preflight.memory import Level
from preflight.printable import text_of
from preflight.records.anonymous import anonymous_plan
from preflight.records.run_index import renew_corrections
from preflight.records.run_record import DONE, FAILED, OOM, RUNNING, RunRecord
from preflight.records.run_store import save
from preflight.records.site_correction import uncorrected
from preflight.report import Report
from preflight.streams import say
from preflight.units import GIB, MIB
from preflight.values import dataclass

MOST_AT_END_BYTES = 32 * MIB
"""Of records that the end of a training reads, in a second or two; of more, `preflight history` makes the corrections."""


@dataclass
class Measurement:
    """What a training takes, from start to finish. Nothing that it does may end the training."""

    args: Any = None
    accelerator: Any = None
    micro_batch_size: int | None = None
    seq_len: int | None = None
    device: str | None = None
    cpu_limit_bytes: int | None = None
    folder: str | None = None
    report_to: IO[str] | None = None
    model: Any = None
    optimizer: Any = None
    trainer: Any = None
    recorder: Recorder | None = None
    record: RunRecord | None = None
    """What was written down, once there is something."""
    run_id: str = ""
    has_looked: bool = False
    """Whether the line after the first steps was said."""

    def start(self, model: Any = None, optimizer: Any = None, uses_hooks: bool = True) -> None:
        """Begin to count; without a model, while it is still to be loaded."""
        try:
            self._start(model, optimizer, uses_hooks)
        except Exception as error:
            self.recorder = None
            self._say(f"preflight: nothing is measured: {type(error).__name__}: {error}")

    def _start(self, model: Any, optimizer: Any, uses_hooks: bool) -> None:
        counters: CudaCounters | CpuCounters
        if model is None:
            counters = CpuCounters(self.cpu_limit_bytes) if _has_no_gpu() else CudaCounters()
        else:
            counters = counters_for(model, self.cpu_limit_bytes)
        self.recorder = Recorder(counters, LOAD if model is None else BETWEEN)
        self.recorder.after_step = self.between_steps
        self.run_id = new_run_id()
        if model is not None:
            self.watch(model, optimizer, uses_hooks)
        counters.start([] if model is None else [model])

    def watch(self, model: Any, optimizer: Any = None, uses_hooks: bool = True) -> None:
        """Tell the phases of a model, and of an optimizer, by their own hooks."""
        self.model = model
        if self.recorder is None:
            return
        if uses_hooks:
            self.recorder.watch_model(model)
        if optimizer is not None:
            self.optimizer = optimizer
            if uses_hooks:
                self.recorder.watch_optimizer(optimizer)

    def between_steps(self) -> None:
        """Look outside after the first two steps, and leave what is known so far in the store."""
        if self.recorder is None or self.recorder.num_steps not in (1, 2):
            return
        try:
            self.recorder.look_outside()
            if self.recorder.num_steps == 2 and not self.has_looked:
                self.has_looked = True
                record = self.recorder.record(self.run_id, RUNNING)
                self._keep(record)
                self._tell_live(self.recorder, record)
        except Exception as error:
            self._say(f"preflight: nothing measured: {type(error).__name__}: {error}")

    def _tell_live(self, held: Recorder, record: RunRecord) -> None:
        """Say after two steps, while there is time, what was predicted and what is most apart from it."""
        report = self._report(held, record) if is_first_rank() else None
        if report is None or report.estimate is None:
            return
        line = live_line(with_prediction(record, report), report.estimate)
        if line:
            self._say(line)

    def finish(self, outcome: str = DONE, error: BaseException | None = None) -> None:
        """End the count, write the record down, and say in a line what was predicted and what was measured."""
        if self.recorder is None:
            return
        held, self.recorder = self.recorder, None
        failed_phase, blocks = held.phase_name(), []
        try:
            if outcome == OOM:
                blocks = held.counters.largest_blocks(NUM_BLOCKS, self._names())
            held.stop()
            if outcome != OOM:
                held.look_outside()
        except Exception as problem:
            self._say(f"preflight: nothing measured: {type(problem).__name__}: {problem}")
        finally:
            held.counters.stop()
        try:
            self._conclude(held, outcome, failed_phase, blocks, error)
        except Exception as problem:
            self._say(f"preflight: no record: {type(problem).__name__}: {problem}")

    def _conclude(
        self, held: Recorder, outcome: str, failed_phase: str, blocks: list[Any], error: Any
    ) -> None:
        record = held.record(self.run_id, outcome, versions=_versions())
        if outcome != DONE:
            # What an exception says may name files and data; a record has its kind alone.
            kind = "" if error is None else type(error).__name__
            record = replace(record, error=kind, failed_phase=failed_phase)
        report = self._report(held, record)
        if report is not None:
            record = with_prediction(record, report)
        self._keep(record)
        if record.device.get("kind") == "cuda" and is_first_rank():
            renew_corrections(self.folder, MOST_AT_END_BYTES)
        if outcome == OOM:
            from preflight.embedded.oom import oom_lines

            first_line = str(error).strip().partition("\n")[0][:300]
            lines = oom_lines(record, report, blocks, self.model, first_line)
            self._say(text_of(lines), every_rank=True)
        elif outcome == DONE:
            self._say(summary_line(record))

    def _report(self, held: Recorder, record: RunRecord) -> Report | None:
        if self.model is None:
            return None
        try:
            plan = live_plan(
                self.model,
                args=self.args,
                accelerator=self.accelerator,
                optimizer=self.optimizer,
                trainer=self.trainer,
                micro_batch_size=self.micro_batch_size or held.micro_batch_size or None,
                seq_len=self.seq_len or held.seq_len or None,
            )
            with uncorrected():
                return check_live(plan, self.model, device=self.device or device_name(record))
        except Exception as problem:
            self._say(f"preflight: no prediction: {problem}")
            return None

    def _keep(self, record: RunRecord) -> None:
        self.record = record
        wrong = save(record, self.folder)
        if wrong:
            self._say(f"preflight: not kept: {'; '.join(wrong)}")

    def _say(self, text: str, every_rank: bool = False) -> None:
        if not (every_rank or is_first_rank()):
            return
        say(text + "\n", self.report_to)

    def _names(self) -> dict[int, str]:
        """Return address -> name of every parameter, gradient and optimizer state."""
        names: dict[int, str] = {}
        of_parameter: dict[int, str] = {}
        for name, parameter in [] if self.model is None else self.model.named_parameters():
            of_parameter[id(parameter)] = name
            for tensor, what in ((parameter, name), (parameter.grad, f"gradient of {name}")):
                names.update(_address(tensor, what))
        optimizer = self.optimizer
        while hasattr(optimizer, "optimizer"):
            optimizer = optimizer.optimizer
        for parameter, state in getattr(optimizer, "state", {}).items():
            for key, tensor in state.items() if isinstance(state, dict) else ():
                name = of_parameter.get(id(parameter), "a parameter")
                names.update(_address(tensor, f"{key} of {name}"))
        return names


NUM_BLOCKS = 8


def _address(tensor: Any, what: str) -> dict[int, str]:
    local = tensor.to_local() if hasattr(tensor, "to_local") else tensor
    if not hasattr(local, "untyped_storage"):
        return {}
    return {int(local.untyped_storage().data_ptr()): what}


def _has_no_gpu() -> bool:
    import torch

    return not torch.cuda.is_available()


def device_name(record: RunRecord) -> str:
    """Return the device of a record as `--device` takes it: its name, and exactly its bytes."""
    return f"{record.device['name']}:{record.device['capacity_bytes'] / GIB!r}"


def with_prediction(record: RunRecord, report: Report) -> RunRecord:
    """Return a record with the plan of its run and what was predicted of the counters that it has."""
    held = {counter for peaks in record.phases.values() for counter in peaks}
    counters = tuple(name for name in ("allocated", "reserved", "device") if name in held)
    plan = {name: value for name, value in report.plan.to_dict().items() if value is not None}
    predicted = (
        {}
        if report.estimate is None
        else predicted_phases(report.estimate, counters or ("allocated",))
    )
    terms = () if report.estimate is None else report.estimate.terms
    return replace(
        record,
        plan=anonymous_plan(plan, report.plan.cwd),
        predicted=predicted,
        predicted_runtime={t.name: t.num_bytes for t in terms if t.level is Level.DEVICE},
        verdict=report.verdict.answer.value,
    )


def is_out_of_memory(error: BaseException | None) -> bool:
    """Tell whether an exception says that a device, or the host, had no more memory."""
    names = {cls.__name__ for cls in type(error).__mro__}
    if "OutOfMemoryError" in names or isinstance(error, MemoryError):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and (
        "out of memory" in text or "can't allocate memory" in text
    )


def outcome_of(error: BaseException | None) -> str:
    """Return the outcome of a run that ended with an exception, or without one."""
    if error is None:
        return DONE
    return OOM if is_out_of_memory(error) else FAILED


def _versions() -> dict[str, str]:
    import torch

    from preflight.versions.installed import installed_versions

    found = dict(installed_versions())
    found["torch"] = str(torch.__version__)
    cuda = getattr(getattr(torch, "version", None), "cuda", None)
    if cuda:
        found["cuda"] = str(cuda)
    settings = os.environ.get("PYTORCH_ALLOC_CONF") or os.environ.get("PYTORCH_CUDA_ALLOC_CONF")
    if settings and re.fullmatch(r"[\w:,.=\[\]>-]+", settings):
        found["alloc_conf"] = settings
    return found
