"""Finding the plan of a new launch: the least that fits, then the largest micro batch, each choice with its reason.

Every candidate is read from the files that would be written, so nothing can be chosen that they do not say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from preflight.devices.step_time import estimate_step_time
from preflight.errors import BadInput
from preflight.judge import Judged, judge_plan
from preflight.launch import LaunchPlan
from preflight.plugin_manager import PluginManager
from preflight.policy import Policy
from preflight.units import format_gib
from preflight.values import dataclass
from preflight.verdict import Answer

METHODS = ("full", "lora", "qlora")
ENGINES = ("single", "ddp", "fsdp2", "hsdp", "zero2", "zero3")
GLOBAL_BATCH_SIZE = 128
"""Sequences of an optimizer step where nobody says: those of Alpaca (tatsu-lab/stanford_alpaca, README, 2023)."""
KEEPS_WHOLE_GRADIENTS = ("fsdp2", "hsdp")
"""Engines whose gradients stay whole from one micro step to the next, unless each one reduces them."""
MOST_SEQUENCES = 64
"""A micro batch is not tried beyond: kernels are long filled."""


@dataclass(frozen=True)
class Choice:
    """What the files of a launch say, beside what was asked for."""

    engine: str
    checkpoints: bool
    micro_batch_size: int = 1
    gradient_accumulation_steps: int = 1
    syncs_each_batch: bool = False


Way = tuple[str, bool, bool]
"""Engine, whether it checkpoints activations, whether gradients are reduced at every micro step."""


@dataclass(frozen=True)
class Fitting:
    """A choice that fits, and why it is that one."""

    choice: Choice
    judged: Judged
    reasons: dict[str, str]
    """`engine`, `activation_checkpointing`, `micro_batch_size`, `gradient_accumulation_steps` -> the reason."""


Read = Callable[[Choice], LaunchPlan]


class Fitter:
    """The candidates of one launch, each estimated once."""

    def __init__(self, read: Read, plugins: PluginManager, global_batch_size: int | None) -> None:
        self.read = read
        self.plugins = plugins
        self.global_batch_size = global_batch_size
        self._plans: dict[Way, LaunchPlan] = {}
        self._judged: dict[tuple[Way, int], Judged] = {}

    def judged(self, way: Way, micro_batch_size: int) -> Judged:
        """Return the estimate of a candidate, with as many micro steps as make the global batch."""
        key = way, micro_batch_size
        if key not in self._judged:
            plan = self._plan(way)
            steps = self._per_rank(plan) // micro_batch_size
            edits = {
                "micro_batch_size": micro_batch_size,
                "gradient_accumulation_steps": max(1, steps),
            }
            self._judged[key] = judge_plan(plan.with_edits(edits), self.plugins, Policy())
        return self._judged[key]

    def fitting(self, engines: tuple[str, ...]) -> Fitting | None:
        """Return the least of the engines that fits, milder ones first; None where none does."""
        ways = [way for way in self._ways(engines) if self._fitting_sizes(way)]
        ways = [way for way in ways if not way[2]] or ways
        if not ways:
            return None
        mild = [way for way in ways if way == (engines[0], False, False)]
        way = mild[0] if mild else min(ways, key=self._time_and_changes)
        best = self._fitting_sizes(way)[-1]
        judged = self.judged(way, best)
        engine, checkpoints, syncs = way
        steps = judged.plan.gradient_accumulation_steps
        choice = Choice(engine, checkpoints, best, steps, syncs)
        too_large = next((size for size in self._sizes(self._plan(way)) if size > best), None)
        return Fitting(choice, judged, self._reasons(choice, engines, too_large))

    def least(self, engines: tuple[str, ...]) -> Judged:
        """Return the candidate that takes the least memory: what an error shows."""
        judged = [
            self.judged(way, size)
            for way in self._ways(engines)
            for size in self._sizes(self._plan(way))
        ]
        return min(judged, key=_peak)

    def _ways(self, engines: tuple[str, ...]) -> Iterator[Way]:
        """Yield the ways to try; gradients are reduced at every micro step only where nothing else fits."""
        for engine in engines:
            yield engine, False, False
            yield engine, True, False
            if engine in KEEPS_WHOLE_GRADIENTS:
                yield engine, False, True
                yield engine, True, True

    def _fitting_sizes(self, way: Way) -> list[int]:
        """Return the micro batches that fit: a larger one can where a smaller one keeps gradients between micro steps."""
        sizes = self._sizes(self._plan(way))
        return [size for size in sizes if self._fits(self.judged(way, size))]

    def _plan(self, way: Way) -> LaunchPlan:
        if way not in self._plans:
            engine, checkpoints, syncs = way
            choice = Choice(engine, checkpoints, syncs_each_batch=syncs)
            self._plans[way] = self.read(choice)
        return self._plans[way]

    def _per_rank(self, plan: LaunchPlan) -> int:
        """Return the sequences of a step on one rank."""
        ranks = plan.data_parallel_degree
        if self.global_batch_size is None:
            return max(1, GLOBAL_BATCH_SIZE // ranks)
        if self.global_batch_size % ranks:
            raise BadInput.one(
                f"a global batch of {self.global_batch_size} cannot be shared by {ranks} ranks",
                "--global-batch-size",
                str(max(1, self.global_batch_size // ranks) * ranks),
            )
        return self.global_batch_size // ranks

    def _sizes(self, plan: LaunchPlan) -> Iterator[int]:
        """Yield the micro batches that make the global batch in whole steps, smallest first."""
        share = self._per_rank(plan)
        for size in range(1, min(share, MOST_SEQUENCES) + 1):
            if share % size == 0:
                yield size

    def _fits(self, judged: Judged) -> bool:
        return judged.verdict.answer is Answer.FITS

    def _time_and_changes(self, way: Way) -> tuple[float, bool, bool]:
        """Order ways by estimated time a token, to the percent, then those that switch nothing on first."""
        judged = self.judged(way, self._fitting_sizes(way)[-1])
        assert judged.model is not None
        seconds = estimate_step_time(judged.plan, judged.model, judged.device).seconds_per_token
        return float(f"{seconds:.2g}"), way[2], way[1]

    def _reasons(
        self, choice: Choice, engines: tuple[str, ...], too_large: int | None
    ) -> dict[str, str]:
        engine, checkpoints, syncs = choice.engine, choice.checkpoints, choice.syncs_each_batch
        way = engine, checkpoints, syncs
        judged = self.judged(way, choice.micro_batch_size)
        reasons = {}
        if engine != engines[0]:
            reasons["engine"] = self._without(
                "not sharded", (engines[0], checkpoints, False), choice
            )
        elif len(engines) > 1:
            reasons["engine"] = f"nothing needs sharding: the peak is {peak_words(judged)}"
        if checkpoints:
            reasons["activation_checkpointing"] = self._without(
                "without it", (engine, False, syncs), choice
            )
        else:
            reasons["activation_checkpointing"] = f"not needed: the peak is {peak_words(judged)}"
        if syncs:
            reasons["accelerator_config"] = self._without(
                "without it gradients wait whole between micro steps and",
                (engine, checkpoints, False),
                choice,
            )
        ranks = judged.plan.data_parallel_degree
        if too_large is not None:
            peak = peak_words(self.judged(way, too_large))
            reasons["micro_batch_size"] = (
                f"the largest that fits: with {too_large} the peak is {peak}"
            )
        elif choice.gradient_accumulation_steps == 1:
            reasons["micro_batch_size"] = "a rank's whole share of the global batch fits at once"
        else:
            reasons["micro_batch_size"] = f"{MOST_SEQUENCES} is the most that is tried"
        batch = judged.plan.global_batch_size
        said = f"assumed: near Alpaca's {GLOBAL_BATCH_SIZE}"
        if self.global_batch_size is not None:
            said = "as asked"
        reasons["gradient_accumulation_steps"] = (
            f"{choice.micro_batch_size} x {choice.gradient_accumulation_steps} x {ranks} ranks"
            f" = a global batch of {batch} sequences, {said}"
        )
        return reasons

    def _without(self, words: str, way: Way, choice: Choice) -> str:
        """Say what leaving a choice out does: does not fit, or fits less, or slower."""
        fits = self._fitting_sizes(way)
        if not fits:
            return f"{words} the peak is {peak_words(self.judged(way, 1))} with one sequence"
        other = self.judged(way, fits[-1])
        taken = self.judged(
            (choice.engine, choice.checkpoints, choice.syncs_each_batch), choice.micro_batch_size
        )
        assert taken.model is not None and other.model is not None
        factor = estimate_step_time(other.plan, other.model, other.device).factor_of(
            estimate_step_time(taken.plan, taken.model, taken.device)
        )
        return f"{words} a step takes about {factor:.1f} times as long by estimate"


def _peak(judged: Judged) -> int:
    return judged.estimate.device_peak_bytes if judged.estimate is not None else 0


def peak_words(judged: Judged) -> str:
    """Say `61.9 of 79.1 GiB`, where that is only tight, and what nobody said that it depends on."""
    assert judged.device is not None
    peak, readings = format_gib(_peak(judged)).removesuffix(" GiB"), judged.readings
    tight = " (tight)" if judged.verdict.answer is Answer.TIGHT else ""
    if judged.verdict.answer is Answer.UNKNOWN and readings is not None:
        least = format_gib(readings.least.peak_bytes).removesuffix(" GiB")
        peak = f"{least} to {format_gib(readings.most.peak_bytes).removesuffix(' GiB')}"
        tight = f", by {', '.join(readings.deciding or readings.may_be)} that nobody said"
    return f"{peak} of {format_gib(judged.device.capacity_bytes)}{tight}"


def engines_for(asked: str | None, num_devices: int, possible: tuple[str, ...]) -> tuple[str, ...]:
    """Return the engines to try, of those that a launcher can say, the one that changes least first."""
    if asked is not None:
        return (asked,)
    if num_devices == 1:
        return ("single",)
    return ("ddp", "fsdp2") if "fsdp2" in possible else ("ddp", "zero3")
