"""A launch judged for every GPU that its job may get, without looking for remedies: what a guard needs, and quickly."""

from __future__ import annotations

from contextlib import suppress

from preflight.device import DeviceSpec
from preflight.errors import ModelNotKnown
from preflight.finding import Finding
from preflight.judge import Judged as JudgedPlan
from preflight.judge import judge_plan
from preflight.launch import LaunchPlan
from preflight.plugin_manager import PluginManager
from preflight.policy import Policy
from preflight.slurm.gpu_memory import device_words
from preflight.slurm.inventory import Inventory
from preflight.slurm.job_findings import job_findings
from preflight.slurm.nodes import Candidates, Fit, GpuGroup, Judged, judge_candidates
from preflight.slurm.options import SubmitOptions
from preflight.values import dataclass
from preflight.verdict import Answer


@dataclass(frozen=True)
class LaunchJudgement:
    """What is known of a launch on the nodes that its job may get."""

    plan: LaunchPlan
    judged: Judged
    """Group by group."""
    findings: tuple[Finding, ...]
    """Where job and launch disagree."""
    by_device: dict[str, JudgedPlan]
    """`--device` words -> the estimate there."""

    @property
    def fit(self) -> Fit:
        """The answer for the job: does not fit only where no candidate can hold it."""
        fits = {fit for _, fit in self.judged.fits}
        if self.judged.refuses:
            return Fit.DOES_NOT_FIT
        for worst in (Fit.DOES_NOT_FIT, Fit.MAYBE, Fit.UNKNOWN):
            if worst in fits:
                return Fit.MAYBE if worst is Fit.DOES_NOT_FIT else worst
        return Fit.FITS if fits else Fit.UNKNOWN

    def on(self, device: DeviceSpec) -> JudgedPlan | None:
        """Return the estimate on one of the devices; None where it was not asked for."""
        return self.by_device.get(device_words(device))

    def smallest(self, *wanted: Fit) -> GpuGroup | None:
        """Return the group with the least memory among those with one of some answers."""
        known = [group for group in self.judged.groups(*wanted) if group.memory is not None]
        return known[-1] if known else None


def judge_launch(
    plan: LaunchPlan,
    options: SubmitOptions,
    candidates: Candidates,
    inventory: Inventory,
    plugins: PluginManager,
    policy: Policy,
    through: tuple[str, ...],
) -> LaunchJudgement:
    """Judge a launch on every group of candidates, and compare it with its job."""
    model = None
    with suppress(ModelNotKnown):  # judge_plan says it, and the rest of the launch
        model = plugins.first("preflight_describe_model", plan=plan)
    by_device: dict[str, JudgedPlan] = {}

    def answer_for(device: DeviceSpec) -> Answer:
        judged = judge_plan(plan, plugins, policy, model=model, device=device)
        by_device[device_words(device)] = judged
        return judged.verdict.answer

    judged = judge_candidates(candidates, answer_for)
    estimate = next((one.estimate for one in by_device.values()), None)
    findings = tuple(job_findings(plan, estimate, options, candidates, inventory, through))
    return LaunchJudgement(plan, judged, findings, by_device)
