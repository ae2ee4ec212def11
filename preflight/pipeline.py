"""The whole flow, from a typed command to a report: read this first.

argv -> LaunchCommand -> LaunchPlan -> ModelSpec + DeviceSpec -> Findings -> MemoryEstimate
     -> Verdict -> Remedies -> Rewrite

Every stage takes values and returns a value; hooks do the knowing, this file does the order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, replace
from typing import TYPE_CHECKING, Any

from preflight.device import DeviceSpec
from preflight.errors import BadInput, HookFailed
from preflight.finding import Finding
from preflight.findings import noticed
from preflight.formulas.allocator import reserved_terms
from preflight.formulas.attention import is_of_class, with_default_attention
from preflight.formulas.precision import missing_inputs, num_trainable_params
from preflight.launch import LaunchCommand, LaunchPlan, Origin
from preflight.memory import MemoryEstimate, MemoryTerm, estimate_peaks
from preflight.model import ModelSpec
from preflight.plugins import PluginManager
from preflight.policy import Policy
from preflight.records.folder import known_correction
from preflight.report import Report
from preflight.repository.settings import OWN_FILE, SHARED_FILE, Repository
from preflight.rewrite import Rewrite
from preflight.search.remedies import suggest, treat
from preflight.units import GIB
from preflight.values import dataclass
from preflight.verdict import Answer, Verdict, judge

if TYPE_CHECKING:
    from preflight.datasets.lengths import RowLengths
    from preflight.devices.prices import Price


@dataclass(frozen=True)
class Request:
    """What the caller asked beside the command: device, overrides, policy, dataset."""

    device: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    """`--set FIELD=VALUE`, parsed: values that the files do not say."""
    policy: Policy = field(default_factory=Policy)
    lengths: RowLengths | None = None
    """How long the rows of `--dataset` are."""
    repository: Repository = field(default_factory=Repository)
    """What the repository says where the launch says nothing."""
    num_alternatives: int = 0
    """Next best answers to look for beside the best one."""
    prices: Mapping[str, Price] | None = None
    """Dollars per GPU and hour in place of the listed ones, by key of the GPU table."""
    use_headroom: bool = False
    """Whether a launch that fits is made faster with the memory it leaves: `fix --use-headroom`."""
    on_this_node: bool = False
    """Whether the ranks start here: `--here`, `--device auto`, or `run` without a named device."""
    device_origin: str = "--device"
    """Who named the device."""


def check_launch(command: LaunchCommand, plugins: PluginManager, request: Request) -> Report:
    """Read, price and judge a launch, and look for remedies where it does not fit. Starts and writes nothing."""
    plan = read_launch(command, plugins)
    if plan is None:
        raise BadInput.one(
            f"no reader knows this launcher: {' '.join(command.argv[:3])}",
            fix=_launcher_behind(command, plugins)
            or "`preflight hooks` lists the readers; `preflight estimate PLAN.yaml` takes a plan",
        )
    return check_plan(plan, plugins, request, command)


def read_launch(command: LaunchCommand, plugins: PluginManager) -> LaunchPlan | None:
    """Return the plan of a launch, through srun, env, bash -c and the like; None where no reader knows it."""

    def read(one: LaunchCommand) -> LaunchPlan | None:
        plan: LaunchPlan | None = plugins.first("preflight_read_launch", command=one)
        return plan

    plan = read(command)
    if plan is None:
        from preflight.shell.wrappers import read_behind

        plan = read_behind(command, read)
    return plan


def check_plan(
    plan: LaunchPlan,
    plugins: PluginManager,
    request: Request,
    command: LaunchCommand | None = None,
) -> Report:
    """Price and judge a plan that was already read."""
    plan = _with_host_memory(with_request(plan, request))
    notes: tuple[str, ...] = ()
    extra: dict[str, Any] = {}
    if request.lengths is not None:
        plan, notes, extra["dataset"] = request.lengths.applied_to(plan)
    judged = judge_plan(plan, plugins, request.policy)
    plan, model, device = judged.plan, judged.model, judged.device
    correction = known_correction(device)
    if correction is not None:
        from preflight.records.site_correction import to_dict

        notes = (*notes, correction.words)
        extra["site_correction"] = to_dict(correction)
    findings = [noticed(problem) for problem in plan.notices]
    asked = {"plan": plan, "model": model, "device": device, "estimate": judged.estimate}
    for owner, item in plugins.collect("preflight_findings", **asked):
        findings.append(_checked(item, Finding, owner, "preflight_findings"))
    kept: tuple[Finding, ...] = ()
    if findings:
        from preflight.findings.ignored import without_ignored

        kept, ignored = without_ignored(findings, request.policy.ignore, command)
        if ignored:
            extra["ignored_findings"] = list(ignored)
    refused_by = [f.id for f in kept if request.policy.refuses_finding(f.id, f.severity)]
    if refused_by:
        extra["refused_by"] = refused_by
    report = Report(
        plan=plan,
        verdict=judged.verdict,
        command=command,
        model=model,
        device=device,
        estimate=judged.estimate,
        num_trainable_params=None if model is None else num_trainable_params(plan, model),
        findings=kept,
        may_launch=not refused_by and not request.policy.refuses(judged.verdict.answer),
        notes=notes,
        extra=extra,
    )
    if model is not None and request.policy.wants_remedy(judged.verdict.answer):
        report = treat(
            report,
            judged,
            plugins,
            request.policy,
            judge_plan,
            write_checked,
            request.num_alternatives,
        )
        report = suggest(report, judged, plugins, request.policy, judge_plan, write_draft)
        if report.final_verdict.answer is Answer.DOES_NOT_FIT:
            from preflight.search.advise import advise

            report = advise(report, judged, plugins, request.policy, judge_plan, request.prices)
    if request.use_headroom:
        from preflight.search.headroom import use_headroom

        report = use_headroom(report, judged, plugins, request.policy, judge_plan, write_checked)
    plugins.tell("preflight_reported", report=report)
    return report


def _with_host_memory(plan: LaunchPlan) -> LaunchPlan:
    """Return the plan with the memory of this node, where the ranks start here and nobody gave it."""
    if plan.host_memory_gib is not None:
        return plan
    if plan.on_this_node:
        from preflight.node.this_node import host_limit

        limit = host_limit(plan)
        if limit is not None:
            gib = max(1, limit.num_bytes // GIB)
            plan = replace(plan, host_memory_gib=gib)
            return plan.with_origin("host_memory_gib", Origin(limit.said_by))
    if plan.offloads:
        unsaid = Origin("nobody", assumed=True, reason=HOST_UNKNOWN)
        return plan.with_origin("host_memory_gib", unsaid)
    return plan


HOST_UNKNOWN = "nobody said: taken to hold what is offloaded, --set host_memory_gib=GIB judges it"


@dataclass(frozen=True)
class Judged:
    """A plan with everything that was worked out about it."""

    plan: LaunchPlan
    model: ModelSpec | None
    device: DeviceSpec | None
    estimate: MemoryEstimate | None
    verdict: Verdict


def judge_plan(
    plan: LaunchPlan,
    plugins: PluginManager,
    policy: Policy,
    model: ModelSpec | None = None,
    device: DeviceSpec | None = None,
) -> Judged:
    """Describe model and device unless given, add up the memory terms, and judge."""
    model = model or plugins.first("preflight_describe_model", plan=plan)
    device = device or plugins.first("preflight_describe_device", plan=plan)
    missing = missing_inputs(plan, model)
    estimate = None
    if model is not None:
        plan = with_default_attention(plan, model)
        estimate = estimate_memory(plan, model, device, plugins, missing)
    host_bytes = None if plan.host_memory_gib is None else plan.host_memory_gib * GIB
    verdict = judge(estimate, device, missing, policy.margin_share, host_bytes)
    return Judged(plan, model, device, estimate, verdict)


def estimate_memory(
    plan: LaunchPlan,
    model: ModelSpec,
    device: DeviceSpec | None,
    plugins: PluginManager,
    missing: tuple[str, ...] = (),
) -> MemoryEstimate:
    """Collect every plugin's terms, add what the allocator holds beyond them, and find the peaks."""
    terms = collect_terms(plan, model, plugins)
    every = (*terms, *reserved_terms(terms, plan))
    correction = known_correction(device)
    if correction is not None:
        from preflight.records.site_correction import corrected_terms

        every = corrected_terms(every, correction)
    return estimate_peaks(every, missing, is_cuda=device is None or device.has_runtime)


def collect_terms(
    plan: LaunchPlan, model: ModelSpec, plugins: PluginManager
) -> tuple[MemoryTerm, ...]:
    """Return every plugin's terms; raise HookFailed for two of one name."""
    terms: dict[str, MemoryTerm] = {}
    owners: dict[str, str] = {}
    for owner, item in plugins.collect("preflight_memory_terms", plan=plan, model=model):
        term = _checked(item, MemoryTerm, owner, "preflight_memory_terms")
        if term.name in terms:
            raise HookFailed(
                owner,
                "preflight_memory_terms",
                f"yields a second term named {term.name!r}; the first is from {owners[term.name]}",
            )
        terms[term.name], owners[term.name] = term, owner
    return tuple(terms.values())


def write_draft(before: LaunchPlan, after: LaunchPlan, plugins: PluginManager) -> Rewrite | None:
    """Write the launch back; None unless every change can be said. Good enough to offer, not to start."""
    rewrite: Rewrite | None = plugins.first("preflight_write_launch", before=before, after=after)
    if rewrite is not None and before.wrapping:
        from preflight.shell.wrappers import rewrapped

        return rewrapped(rewrite, before.wrapping)
    return rewrite


def write_checked(before: LaunchPlan, after: LaunchPlan, plugins: PluginManager) -> Rewrite | None:
    """Write the launch back, read the result again, and return it only if it gives the edited plan."""
    rewrite = write_draft(before, after, plugins)
    if rewrite is None or before.source is None:
        return rewrite
    whole = before.wrapping[0].command if before.wrapping else before.source.command
    try:
        again = read_launch(rewritten_command(whole, rewrite), plugins)
    except BadInput:
        return None  # the launcher refuses what an edit makes of its other settings
    if again is None or differing_fields(again, after, before):
        return None
    return rewrite


def rewritten_command(command: LaunchCommand, rewrite: Rewrite) -> LaunchCommand:
    """Return the command that a rewrite starts, with its files in the overlay."""
    overlay = {**command.overlay, **{file.new_path: file.after for file in rewrite.files}}
    return replace(command, argv=rewrite.argv, env={**command.env, **rewrite.env}, overlay=overlay)


def differing_fields(again: LaunchPlan, after: LaunchPlan, before: LaunchPlan) -> tuple[str, ...]:
    """Return the fields of a re-read rewrite that are not as edited.

    A field that `--set`, `--dataset` or the model's class decided is not in the launch, so it is
    compared only where a remedy edited it.
    """
    overridden = {
        name
        for name, origin in before.origins.items()
        if is_override(origin) or is_of_class(origin)
    }
    left, right, old = again.to_dict(), after.to_dict(), before.to_dict()
    return tuple(
        name
        for name in right
        if left[name] != right[name]
        # An adapter brings peft: what is installed is not what is asked for; who writes checkpointing
        # chooses its kind; and a node's memory is in no launch.
        and name not in ("versions", "checkpointing_reentrant", "host_memory_gib")
        and not (name in overridden and old[name] == right[name])
    )


SET_ORIGIN = "--set"
DATASET_ORIGIN = "--dataset "


def is_override(origin: Origin) -> bool:
    """Tell whether a value comes from preflight's own options or settings, not from the launch."""
    where = origin.where
    return (
        where == SET_ORIGIN
        or where.startswith(DATASET_ORIGIN)
        or where.partition(":")[0].endswith((OWN_FILE, SHARED_FILE))
    )


def with_request(plan: LaunchPlan, request: Request) -> LaunchPlan:
    """Return the plan with the repository's values where it has none, and the caller's overrides."""
    plan = _with_repository(plan, request.repository)
    if request.on_this_node:
        plan = replace(plan, on_this_node=True)
    for name in request.settings:
        # Before the edit: a value that cannot be is reported where it was given.
        plan = plan.with_origin(name.partition(".")[0], Origin(SET_ORIGIN))
    plan = plan.with_edits(request.settings)
    if request.device is not None:
        plan = replace(plan, device=request.device).with_origin(
            "device", Origin(request.device_origin)
        )
    return plan


def _with_repository(plan: LaunchPlan, repository: Repository) -> LaunchPlan:
    for name, value in repository.plan.items():
        outer, _, inner = name.partition(".")
        origin = plan.origins.get(outer)
        is_said = origin is not None and not origin.assumed and not is_override(origin)
        if is_said or (inner and getattr(plan, outer) is not None and origin is None):
            continue
        plan = plan.with_edits({name: value})
        plan = plan.with_origin(outer, Origin(repository.place("plan", *name.split("."))))
    if plan.device is None and repository.device is not None:
        plan = replace(plan, device=repository.device)
        plan = plan.with_origin("device", Origin(repository.place("device")))
    return plan


def _launcher_behind(command: LaunchCommand, plugins: PluginManager) -> str:
    """Return where preflight belongs if a launcher stands behind variables or a wrapper such as srun."""
    for index in range(1, len(command.argv)):
        words, launcher = command.argv[:index], replace(command, argv=command.argv[index:])
        try:
            is_known = plugins.first("preflight_read_launch", command=launcher) is not None
        except BadInput:
            is_known = True
        if is_known:
            return f"put preflight in front of the launcher: {' '.join(words)} preflight ... -- {launcher.argv[0]} ..."
    return ""


def _checked(item: Any, wanted: type[Any], owner: str, hook: str) -> Any:
    if not isinstance(item, wanted):
        raise HookFailed(owner, hook, f"yielded {item!r}, which is not a {wanted.__name__}")
    return item
