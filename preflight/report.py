"""Everything that one check found out, as one value: what is rendered, returned and raised."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field
from typing import TYPE_CHECKING, Any

from preflight.device import DeviceSpec
from preflight.finding import Finding
from preflight.launch import LaunchCommand, LaunchPlan, plain
from preflight.memory import MemoryEstimate, Moment, by_phase, phase_names
from preflight.model import ModelSpec
from preflight.readings import Readings
from preflight.remedy import DEAR_FACTOR, Remedy
from preflight.rewrite import Rewrite
from preflight.values import dataclass
from preflight.verdict import Answer, Verdict

if TYPE_CHECKING:
    from preflight.advice import Advice

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class TriedRemedy:
    """A remedy, and what the plan is estimated at with it (and every one before it)."""

    remedy: Remedy
    plan: LaunchPlan
    estimate: MemoryEstimate
    """Of the plan as it stands; of one that is tight in another reading alone, of the dearest."""
    verdict: Verdict
    step_time_factor: float = 1.0
    """Estimated step time of that plan over the plan as written, for the same tokens."""
    step_time_parts: Mapping[str, float] = field(default_factory=dict)
    """Part -> seconds per optimizer step on one rank: good for comparing plans, not as a promise."""

    @property
    def is_dear(self) -> bool:
        """Tell whether its plan takes more than half as much time again for a step."""
        return self.step_time_factor > DEAR_FACTOR

    @property
    def fits_cheaply(self) -> bool:
        """Tell whether its plan fits, and is not dear."""
        return self.verdict.answer is Answer.FITS and not self.is_dear


EXTRA = (
    "dataset",
    "ignored_findings",
    "longest_seq_len",
    "longest_seq_len_with",
    "refused_by",
    "room",
    "site_correction",
)
"""What `extra` may hold that the JSON contract has, each only where there is something to say."""


VIEWS: dict[str, Callable[[Report], str]] = {}
"""`text`, `html` and `notebook` -> what shows a report so. Whoever hands reports to people stands above this module and
what draws, and fills it: preflight/api.py."""


@dataclass(frozen=True)
class Report:
    """The outcome of the pipeline for one launch."""

    plan: LaunchPlan
    verdict: Verdict
    command: LaunchCommand | None = None
    model: ModelSpec | None = None
    device: DeviceSpec | None = None
    estimate: MemoryEstimate | None = None
    readings: Readings | None = None
    """What the plan's open values leave; None where it has none."""
    num_trainable_params: int | None = None
    findings: tuple[Finding, ...] = ()
    applied: tuple[TriedRemedy, ...] = ()
    """In order; the last one's plan is what the rewrite launches."""
    alternatives: tuple[tuple[TriedRemedy, ...], ...] = ()
    """The next best safe answers, where somebody asked for them."""
    suggested: tuple[TriedRemedy, ...] = ()
    by_hand: tuple[TriedRemedy, ...] = ()
    """Safe remedies that make it fit and that nothing writes into the launch: the last one's `how` tells the edits."""
    advice: Advice | None = None
    """Other methods and devices, where nothing that may be applied makes it fit."""
    rewrite: Rewrite | None = None
    notes: tuple[str, ...] = ()
    """Sentences for the reader: what could not be written, what was not looked at."""
    left_alone: tuple[str, ...] = ()
    """Files with settings or hooks that were not obeyed: which, why, and what would change that."""
    may_launch: bool = False
    """True where `run` would start something: as written, or as rewritten."""
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        """Return the verdict in a line; `text` is the whole report, `to_dict()` every value."""
        return f"<Report: {self.verdict.answer.words}: {self.verdict.reason}; .text shows it>"

    @property
    def text(self) -> str:
        """The report as `preflight check` prints it to a file: 80 columns, no color."""
        return VIEWS["text"](self)

    def to_html(self) -> str:
        """Return the report as one HTML page, as `--report FILE.html` writes it but for the sliders."""
        return VIEWS["html"](self)

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the verdict, the phases against the capacity, and the text to open."""
        return VIEWS["notebook"](self)

    @property
    def final_verdict(self) -> Verdict:
        """The verdict of what would be started."""
        return self.applied[-1].verdict if self.applied and self.rewrite else self.verdict

    @property
    def is_refused_by_findings(self) -> bool:
        """True where the policy refuses one of the findings, whatever the verdict is."""
        return "refused_by" in self.extra

    @property
    def is_dear(self) -> bool:
        """True where the rewritten launch takes more than half as much time again for a step."""
        is_rewritten = bool(self.applied) and self.rewrite is not None
        return is_rewritten and self.applied[-1].is_dear

    @property
    def dearest(self) -> str:
        """The applied remedy that costs most of the step time; empty where nothing is applied."""
        factors = [1.0, *(tried.step_time_factor for tried in self.applied)]
        costs = {
            tried.remedy.id: tried.step_time_factor / before
            for tried, before in zip(self.applied, factors, strict=False)
        }
        return max(costs, key=costs.__getitem__, default="")

    @property
    def final_plan(self) -> LaunchPlan:
        """The plan of what would be started."""
        return self.applied[-1].plan if self.applied and self.rewrite else self.plan

    @property
    def assumed(self) -> dict[str, str]:
        """Plan field -> why it has the value it has, for every value that nobody gave."""
        return {
            name: origin.reason or origin.where
            for name, origin in sorted(self.plan.origins.items())
            if origin.assumed and not self.is_idle(name)
        }

    def is_idle(self, plan_field: str) -> bool:
        """Tell whether a field speaks of parts that the model does not have: a launcher's default about towers."""
        is_text = self.model is not None and not self.model.has_towers
        return plan_field == "vision" and is_text

    def to_dict(self) -> dict[str, Any]:
        """Return the report as the JSON of DESIGN (schema_version 1)."""
        return {
            "schema_version": SCHEMA_VERSION,
            "verdict": self.verdict.answer.value,
            "reason": self.verdict.reason,
            "failing_phase": self.verdict.failing_phase.value
            if self.verdict.failing_phase
            else None,
            "failing_level": self.verdict.failing_level.value
            if self.verdict.failing_level
            else None,
            "missing": list(self.verdict.missing),
            "unpriced": list(self.verdict.unpriced),
            "bounded": list(self.verdict.bounded),
            "may_launch": self.may_launch,
            "plan": self.plan.to_dict(),
            "origins": {
                name: {"where": origin.where, "assumed": origin.assumed}
                for name, origin in sorted(self.plan.origins.items())
            },
            "assumed": self.assumed,
            "model": None
            if self.model is None
            else {
                "name": self.model.name,
                "num_params": self.model.num_params,
                "num_trainable_params": self.num_trainable_params,
                "source": self.model.source,
                "like": plain(self.model.like),
            },
            "device": None
            if self.device is None
            else {
                "name": self.device.name,
                "key": self.device.key,
                "capacity_bytes": self.device.capacity_bytes,
                "count": self.device.count,
                "source": self.device.source,
            },
            "estimate": None if self.estimate is None else estimate_to_dict(self.estimate),
            "readings": None if self.readings is None else self.readings.to_dict(),
            "open": {} if self.readings is None else self.readings.open_to_dict(),
            "findings": [
                {
                    "id": f.id,
                    "name": f.name,
                    "severity": f.severity,
                    "where": f.where,
                    "message": f.message,
                    "fix": f.fix,
                }
                for f in self.findings
            ],
            "applied": [_tried_to_dict(tried) for tried in self.applied],
            "alternatives": [
                [_tried_to_dict(tried) for tried in path] for path in self.alternatives
            ],
            "suggested": [_tried_to_dict(tried) for tried in self.suggested],
            "by_hand": [_tried_to_dict(tried) for tried in self.by_hand],
            "advice": None if self.advice is None else self.advice.to_dict(),
            "rewrite": None if self.rewrite is None else self.rewrite.to_dict(),
            "notes": [*self.notes, *self.left_alone],
            **{name: self.extra[name] for name in EXTRA if name in self.extra},
        }


def estimate_to_dict(estimate: MemoryEstimate) -> dict[str, Any]:
    """Return an estimate as the `estimate` of the JSON contract."""
    if not estimate.peaks:
        return {"peak_phase": None, "phases": {}, "terms": [], "unknown": list(estimate.unknown)}
    return {
        "peak_phase": estimate.peak.phase.value,
        "allocated_peak_bytes": estimate.allocated_peak_bytes,
        "reserved_peak_bytes": estimate.reserved_peak_bytes,
        "device_peak_bytes": estimate.device_peak_bytes,
        "host_peak_bytes_per_node": estimate.host_peak_bytes_per_node,
        "phases": by_phase({peak.phase: peak.allocated_bytes for peak in estimate.peaks}),
        "peak_moments": by_phase({peak.phase: peak.moment.value for peak in estimate.peaks}),
        "terms": [
            {
                "name": term.name,
                "num_bytes": term.num_bytes,
                "phases": phase_names(term.phases),
                "moments": [moment.value for moment in Moment if moment in term.own_moments],
                "level": term.level.value,
                "formula": term.formula,
                "source": term.source,
            }
            for term in estimate.terms
        ],
        "unknown": list(estimate.unknown),
    }


def _tried_to_dict(tried: TriedRemedy) -> dict[str, Any]:
    return {
        "id": tried.remedy.id,
        "title": tried.remedy.title,
        "safety": tried.remedy.safety,
        "edits": plain(tried.remedy.edits),
        "allocated_peak_bytes": tried.estimate.allocated_peak_bytes
        if tried.estimate.peaks
        else None,
        "device_peak_bytes": tried.estimate.device_peak_bytes if tried.estimate.peaks else None,
        "verdict": tried.verdict.answer.value,
        "step_time_factor": round(tried.step_time_factor, 4),
        "how": tried.remedy.how,
        "with": list(tried.remedy.extra.get("with", ())),
        "notes": list(tried.remedy.notes),
    }
