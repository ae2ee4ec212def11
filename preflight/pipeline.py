"""The whole flow, from a typed command to a report: read this first.

argv -> LaunchCommand -> LaunchPlan -> ModelSpec + DeviceSpec -> Findings -> MemoryEstimate
     -> Verdict -> Remedies -> Rewrite

Every stage takes values and returns a value; hooks do the knowing, this file does the order.
"""

from __future__ import annotations

from typing import Any

from preflight.errors import BadInput
from preflight.finding import Finding
from preflight.findings import noticed
from preflight.formats.missing import only_unread
from preflight.formulas.adapters.adapters import num_trainable_params
from preflight.judge import Judged, checked_item, judge_plan
from preflight.launch import LaunchCommand, LaunchPlan, Origin
from preflight.plugin_manager import PluginManager
from preflight.records.known import damaged_corrections, known_correction
from preflight.report import Report
from preflight.request import Request, with_request, with_said_versions
from preflight.rewriting import read_launch, write_checked, write_with_copy
from preflight.units import GIB
from preflight.values import replace
from preflight.verdict import Answer


def check_launch(command: LaunchCommand, plugins: PluginManager, request: Request) -> Report:
    """Read, price and judge a launch, and look for remedies where it does not fit. Starts and writes nothing."""
    command = with_said_versions(command, request)
    try:
        plan = read_launch(command, plugins)
    except BadInput as error:
        notices = only_unread(error)
        plan = LaunchPlan(cwd=command.cwd, command=command, notices=notices)
    if plan is None:
        from preflight.launchers.unread import unread_launch

        plan = unread_launch(command, plugins)
    return check_plan(plan, plugins, request, command)


def check_plan(
    plan: LaunchPlan, plugins: PluginManager, request: Request, command: LaunchCommand | None = None
) -> Report:
    """Price and judge a plan that was already read."""
    plugins.next_answer()
    plan, notes, extra = _completed(with_request(plan, request), request)
    judged = judge_plan(plan, plugins, request.policy)
    plan, model = judged.plan, judged.model
    report = Report(
        plan=plan,
        verdict=judged.verdict,
        command=command,
        model=model,
        device=judged.device,
        estimate=judged.estimate,
        readings=judged.readings,
        num_trainable_params=None if model is None else num_trainable_params(plan, model),
        notes=notes,
        left_alone=(*request.repository.left_alone, *plugins.left_alone),
        extra=extra,
    )
    report = _with_site_records(report)
    report = _with_findings(report, judged, plugins, request)
    report = _with_remedies(report, judged, plugins, request)
    if report.verdict.answer in (Answer.DOES_NOT_FIT, Answer.UNKNOWN) and request.lengths is None:
        from preflight.search.longest import with_longest_rows

        report = with_longest_rows(report, judged, plugins, request)
    if request.use_headroom:
        from preflight.search.headroom import use_headroom

        report = use_headroom(report, judged, plugins, request.policy)
    if request.finds_room and request.lengths is None:
        report = _with_room(report, judged, plugins, request)
    plugins.tell("preflight_reported", report=report)
    return report


def _completed(
    plan: LaunchPlan, request: Request
) -> tuple[LaunchPlan, tuple[str, ...], dict[str, Any]]:
    """Return the plan with what this node, the hub and the user's data say of it; notes, and what a report has of that."""
    plan = _with_host_memory(plan)
    notes: tuple[str, ...] = ()
    extra: dict[str, Any] = {}
    if request.is_online and plan.model_config is None:
        from preflight.models.download import download_config

        failure = download_config(plan.model, plan.cwd)
        notes = (failure,) if failure else ()
    if request.lengths is not None:
        plan, of_data, extra["dataset"] = request.lengths.applied_to(plan)
        notes = (*notes, *of_data)
    return plan, notes, extra


def _with_site_records(report: Report) -> Report:
    """Return the report with what this site's own runs correct in it, and which of their records are damaged."""
    correction = known_correction(report.device)
    if correction is not None:
        from preflight.records.site_correction import to_dict

        extra = {**report.extra, "site_correction": to_dict(correction)}
        report = replace(report, notes=(*report.notes, correction.words), extra=extra)
    damage = damaged_corrections()
    return replace(report, notes=(*report.notes, damage)) if damage else report


def _with_findings(
    report: Report, judged: Judged, plugins: PluginManager, request: Request
) -> Report:
    """Return the report with what readers and checks found, and whether the policy lets it launch."""
    problems = (*report.plan.notices, judged.model_problem)
    findings = [noticed(problem) for problem in problems if problem is not None]
    asked = {
        "plan": report.plan,
        "model": report.model,
        "device": report.device,
        "estimate": report.estimate,
    }
    hook = "preflight_findings"
    items = plugins.collect(hook, **asked)
    checked = [(owner, checked_item(item, Finding, owner, hook)) for owner, item in items]
    if any(finding.severity == "error" for _, finding in checked):
        from preflight.certainty import as_sure_as_the_plan

        findings += as_sure_as_the_plan(checked, plugins, asked)
    else:
        findings += [finding for _, finding in checked]
    kept: tuple[Finding, ...] = ()
    extra = dict(report.extra)
    if findings:
        from preflight.findings.ignored import without_ignored

        kept, ignored = without_ignored(findings, request.policy.ignore, report.command)
        if ignored:
            extra["ignored_findings"] = list(ignored)
    refused_by = [f.id for f in kept if request.policy.refuses_finding(f.id, f.severity)]
    if refused_by:
        extra["refused_by"] = refused_by
    may_launch = not refused_by and not request.policy.refuses(report.verdict.answer)
    return replace(report, findings=kept, may_launch=may_launch, extra=extra)


def _with_remedies(
    report: Report, judged: Judged, plugins: PluginManager, request: Request
) -> Report:
    """Return the report with what makes the launch fit, or would: remedies, suggestions, other methods and devices."""
    policy = request.policy
    if report.model is None or not policy.wants_remedy(report.verdict.answer):
        return report
    # The search, the writers and what a step takes: a launch that fits needs none of them.
    from preflight.search.remedies import treat
    from preflight.search.suggestions import suggest

    write = write_with_copy if request.copies_script else write_checked
    report = treat(report, judged, plugins, policy, request.num_alternatives, write)
    report = suggest(report, judged, plugins, policy)
    if report.final_verdict.answer is Answer.DOES_NOT_FIT:
        from preflight.search.advise import advise

        report = advise(report, judged, plugins, policy, request.prices)
    return report


def _with_room(report: Report, judged: Judged, plugins: PluginManager, request: Request) -> Report:
    """Return the report with what is left where it fits: as written, or as it would be started."""
    if report.final_verdict.answer is not Answer.FITS:
        return report
    from preflight.search.room import room_of

    if report.final_plan is not report.plan:
        judged = judge_plan(report.final_plan, plugins, request.policy, report.model, report.device)
    room = room_of(judged, plugins, request.policy)
    if room is None:
        return report
    return replace(report, extra={**report.extra, "room": room.to_dict()})


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
