"""The whole flow, from a typed command to a report: read this first.

argv -> LaunchCommand -> LaunchPlan -> ModelSpec + DeviceSpec -> Findings -> MemoryEstimate
     -> Verdict -> Remedies -> Rewrite

Every stage takes values and returns a value; hooks do the knowing, this file does the order.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from preflight.errors import BadInput
from preflight.finding import Finding
from preflight.findings import noticed
from preflight.formats.missing import only_to_fill_in
from preflight.formulas.adapters import num_trainable_params
from preflight.judge import Judged, checked_item, judge_plan
from preflight.launch import LaunchCommand, LaunchPlan, Origin
from preflight.launchers.unread import unread_launch
from preflight.plugin_manager import PluginManager
from preflight.records.known import damaged_corrections, known_correction
from preflight.report import Report
from preflight.request import Request, is_override, with_request, with_said_versions
from preflight.rewriting import read_launch, write_checked, write_with_copy
from preflight.search.remedies import treat
from preflight.search.suggestions import suggest
from preflight.units import GIB
from preflight.verdict import Answer, Verdict

SURELY_REACHED = 0.5
"""Share of the length at which rows are cut that some row is taken to reach, for a refusal: who cuts at twice what the
data has would cut at half of it. Published runs with alpaca's rows hold half of what their cap takes."""


def check_launch(command: LaunchCommand, plugins: PluginManager, request: Request) -> Report:
    """Read, price and judge a launch, and look for remedies where it does not fit. Starts and writes nothing."""
    command = with_said_versions(command, request)
    try:
        plan = read_launch(command, plugins)
    except BadInput as error:
        notices = only_to_fill_in(error)
        plan = LaunchPlan(cwd=command.cwd, command=command, notices=notices)
    if plan is None:
        plan = unread_launch(command, plugins)
    return check_plan(plan, plugins, request, command)


def check_plan(
    plan: LaunchPlan, plugins: PluginManager, request: Request, command: LaunchCommand | None = None
) -> Report:
    """Price and judge a plan that was already read."""
    plugins.next_answer()
    plan = _with_host_memory(with_request(plan, request))
    notes: tuple[str, ...] = ()
    extra: dict[str, Any] = {}
    if request.is_online and plan.model_config is None:
        from preflight.models.download import download_config

        failure = download_config(plan.model, plan.cwd)
        notes = (failure,) if failure else ()
    if request.lengths is not None:
        plan, of_data, extra["dataset"] = request.lengths.applied_to(plan)
        notes = (*notes, *of_data)
    judged = judge_plan(plan, plugins, request.policy)
    plan, model, device = judged.plan, judged.model, judged.device
    correction = known_correction(device)
    if correction is not None:
        from preflight.records.site_correction import to_dict

        notes = (*notes, correction.words)
        extra["site_correction"] = to_dict(correction)
    notices = plan.notices
    if judged.model_problem is not None:
        notices = (*notices, judged.model_problem)
    damage = damaged_corrections()
    if damage:
        notes = (*notes, damage)
    findings = [noticed(problem) for problem in notices]
    asked = {"plan": plan, "model": model, "device": device, "estimate": judged.estimate}
    hook = "preflight_findings"
    items = plugins.collect(hook, **asked)
    checked = [(owner, checked_item(item, Finding, owner, hook)) for owner, item in items]
    if any(finding.severity == "error" for _, finding in checked):
        from preflight.certainty import as_sure_as_the_plan

        findings += as_sure_as_the_plan(checked, plugins, asked)
    else:
        findings += [finding for _, finding in checked]
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
        readings=judged.readings,
        num_trainable_params=None if model is None else num_trainable_params(plan, model),
        findings=kept,
        may_launch=not refused_by and not request.policy.refuses(judged.verdict.answer),
        notes=notes,
        left_alone=(*request.repository.left_alone, *plugins.left_alone),
        extra=extra,
    )
    if model is not None and request.policy.wants_remedy(judged.verdict.answer):
        report = treat(
            report,
            judged,
            plugins,
            request.policy,
            request.num_alternatives,
            write_with_copy if request.copies_script else write_checked,
        )
        report = suggest(report, judged, plugins, request.policy)
        if report.final_verdict.answer is Answer.DOES_NOT_FIT:
            from preflight.search.advise import advise

            report = advise(report, judged, plugins, request.policy, request.prices)
    if report.verdict.answer in (Answer.DOES_NOT_FIT, Answer.UNKNOWN) and request.lengths is None:
        report = _with_longest(report, judged, plugins, request)
    if request.use_headroom:
        from preflight.search.headroom import use_headroom

        report = use_headroom(report, judged, plugins, request.policy)
    if request.finds_room and request.lengths is None:
        report = _with_room(report, judged, plugins, request)
    plugins.tell("preflight_reported", report=report)
    return report


def _with_longest(
    report: Report, judged: Judged, plugins: PluginManager, request: Request
) -> Report:
    """Return the report with the longest rows that fit, where the length is only a cap or nobody said it."""
    from preflight.search.longest import rows_that_fit

    length, ends_sooner = rows_that_fit(judged, plugins, request.policy)
    found: dict[str, Any] = {} if length is None else {"longest_seq_len": length}
    if request.finds_room:
        from preflight.search.longer import longer_rows

        with_each = longer_rows(judged, length, plugins, request.policy)
        if with_each:
            found["longest_seq_len_with"] = [one.to_dict() for one in with_each]
    report = replace(report, extra={**report.extra, **found})
    cap = judged.plan.seq_len
    if cap is None:
        return report
    origin = judged.plan.origins.get("seq_len")
    is_told = origin is not None and is_override(origin)  # somebody says that rows are as long
    if ends_sooner and not is_told:
        return _with_rows_to_be_made(report, length, cap, request)
    if length is None:
        return report
    note = (
        f"{cap:,} tokens are where rows are cut, and no data was seen: rows of up to"
        f" {length:,} tokens fit as written; --dataset FILE says how long they are"
    )
    report = replace(report, notes=(*report.notes, note))
    is_helped = report.final_verdict.answer is not Answer.DOES_NOT_FIT or bool(report.by_hand)
    if is_told or is_helped or length < SURELY_REACHED * cap:
        return report  # a sure way on, for rows as long as the cap, is worth more than the doubt
    reason = f"rows of up to {length:,} of the {cap:,} tokens at which they are cut fit"
    return replace(report, **_unknown_for_its_length(report, reason, request))


def _with_rows_to_be_made(report: Report, length: int | None, cap: int, request: Request) -> Report:
    """Return the answer of a launch that its longest rows alone refuse, where a model says how long they get."""
    reason = f"rows get at most {cap:,} tokens long, and a model ends them sooner"
    if length is not None:
        reason = f"rows of up to {length:,} of the {cap:,} tokens that a model may make of them fit"
    fits_rewritten = report.final_verdict.answer is Answer.FITS
    return replace(
        report,
        applied=(),
        rewrite=None,
        by_hand=report.applied if fits_rewritten else report.by_hand,
        notes=(*report.notes, "--set seq_len=N says how long the longest rows are"),
        **_unknown_for_its_length(report, reason, request),
    )


def _unknown_for_its_length(report: Report, reason: str, request: Request) -> dict[str, Any]:
    may_launch = "refused_by" not in report.extra and not request.policy.refuses(Answer.UNKNOWN)
    verdict = Verdict(Answer.UNKNOWN, reason, missing=("seq_len",))
    return {"verdict": verdict, "may_launch": may_launch}


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
