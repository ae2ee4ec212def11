"""One launch line of a job with what is known of it on the nodes that the job may get."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from preflight.slurm.judgement import LaunchJudgement
from preflight.slurm.nodes import Candidates, Fit
from preflight.slurm.scripted_launch import ScriptLaunch
from preflight.values import dataclass
from preflight.verdict import Answer as Verdict


@dataclass(frozen=True)
class JudgedLaunch:
    """One launch line with what is known of it."""

    launch: ScriptLaunch
    component: int = 0
    """Of a heterogeneous job."""
    candidates: Candidates | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    """Absolute path -> text of the configs that its script writes before it."""
    judgement: LaunchJudgement | None = None
    problem: str = ""
    """Why it is not judged."""
    refused_by: tuple[str, ...] = ()
    """Ids of findings, or `tight`, that the policy starts nothing with."""
    task: int | None = None
    """Of an array, where it launches something else than the first; None for what the first launches."""

    @property
    def where(self) -> str:
        """The place of its line, and the task that fills it in so."""
        return (
            self.launch.origin
            if self.task is None
            else f"{self.launch.origin}, array task {self.task}"
        )

    @property
    def is_refused(self) -> bool:
        """Whether it surely fits on none of its job's nodes, or the policy wants none of it."""
        return self.fit is Fit.DOES_NOT_FIT or bool(self.refused_by)

    @property
    def is_tight(self) -> bool:
        """Whether it fits the smallest of the nodes only without the allocator's fragmentation."""
        group = self.judgement.smallest(Fit.FITS) if self.judgement is not None else None
        if group is None or group.memory is None or self.judgement is None:
            return False
        judged = self.judgement.on(group.memory.low)
        return judged is not None and judged.verdict.answer is Verdict.TIGHT

    @property
    def fit(self) -> Fit:
        return self.judgement.fit if self.judgement is not None else Fit.UNKNOWN
