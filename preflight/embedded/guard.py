"""`preflight.guard()`: the check of a training that is about to start in this process, from its live objects."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import IO, Any

from preflight.api import policy_of, report_text
from preflight.embedded.live_plan import live_plan, num_live_params
from preflight.embedded.live_spec import LiveModels
from preflight.errors import LaunchRefused
from preflight.judge import judge_plan
from preflight.launch import LaunchPlan
from preflight.pipeline import check_plan
from preflight.plugin_manager import PluginManager
from preflight.plugins import load_plugins
from preflight.policy import Policy
from preflight.render.page import Page
from preflight.render.words import of_capacity
from preflight.report import Report
from preflight.repository.settings import find_repository
from preflight.request import Request
from preflight.rewrite import Rewrite
from preflight.search.remedies import treat
from preflight.streams import say
from preflight.switch import said

SAME_SHARE = 0.005
"""Parameters of a live model may differ from its config's by this share: a head for a reward, a few new tokens."""


def guard(
    model: Any = None,
    args: Any = None,
    *,
    trainer: Any = None,
    accelerator: Any = None,
    optimizer: Any = None,
    micro_batch_size: int | None = None,
    seq_len: int | None = None,
    num_processes: int | None = None,
    device: str | None = None,
    settings: Mapping[str, Any] | None = None,
    policy: Policy | Mapping[str, Any] | None = None,
    report_to: IO[str] | None = None,
) -> Report | None:
    """Check the training that is about to start with these objects, and return its report.

    Call it before `notebook_launcher` (with `num_processes`), `Accelerator.prepare` or
    `Trainer.train()`. Every rank checks and comes to the same answer, so that none waits for
    another; rank 0 says it, one line where it fits. None where PREFLIGHT=off.

    Raises LaunchRefused with the report where the policy refuses; PREFLIGHT=warn says it and goes on.
    """
    mode = said(os.environ)
    if mode == "off":
        return None
    if trainer is not None:
        model = trainer.model if model is None else model
        args = trainer.args if args is None else args
        accelerator = trainer.accelerator if accelerator is None else accelerator
        optimizer = trainer.optimizer if optimizer is None else optimizer
    if model is None:
        raise TypeError("guard needs a model, or a trainer that has one")
    plan = live_plan(
        model,
        args=args,
        accelerator=accelerator,
        optimizer=optimizer,
        trainer=trainer,
        micro_batch_size=micro_batch_size,
        seq_len=seq_len,
        num_processes=num_processes,
    )
    report = check_live(plan, model, device=device, settings=settings, policy=policy)
    is_refused = refuses(report, policy)
    text = _text(report, is_refused, mode)
    if is_refused and mode != "warn":
        raise LaunchRefused(text, report)
    if is_first_rank():
        say(text + "\n", report_to)
    return report


def check_live(
    plan: LaunchPlan,
    model: Any,
    *,
    device: str | None = None,
    settings: Mapping[str, Any] | None = None,
    policy: Policy | Mapping[str, Any] | None = None,
) -> Report:
    """Return the report of a live plan; what of the live model its config does not say is noted."""
    folder = os.getcwd()
    repository = find_repository(folder)
    plugins = load_plugins(folder, project_files=repository.hooks)
    plugins.register(LiveModels(model), "the live model", is_own=True)
    request = Request(
        device,
        dict(settings or {}),
        policy_of(policy, repository),
        repository=repository,
        on_this_node=device is None,
    )
    report = with_changes(check_plan(plan, plugins, request), plugins, request.policy)
    return replace(report, notes=(*report.notes, *live_notes(report, model)))


def with_changes(report: Report, plugins: PluginManager, policy: Policy) -> Report:
    """Return a report with the safe changes that make it fit in `applied`: found as for a launch, and made by nobody.

    A launch takes only changes that can be written into it. Whoever has the objects in hand can make
    any of them.
    """
    if report.model is None or not policy.wants_remedy(report.verdict.answer):
        return report
    judged = judge_plan(report.plan, plugins, policy, report.model, report.device)
    plain = replace(report, applied=(), rewrite=None, notes=())
    found = treat(plain, judged, plugins, policy, write=lambda *_: Rewrite(()))
    if not found.applied:
        return report
    told = tuple(note for note in report.notes if "cannot be written into this launch" not in note)
    return replace(report, applied=found.applied, suggested=(), advice=None, notes=told)


def change_lines(report: Report, capacity_bytes: int, page: Page) -> list[str]:
    """Return the changes that keep training as it is and make it fit, as plan fields to set."""
    if not report.applied:
        return []
    lines = ["this makes it fit, and keeps the training as it is:"]
    for tried in report.applied:
        edits = ", ".join(f"{name} = {value}" for name, value in tried.remedy.edits.items())
        lines += page.wrap(f"{tried.remedy.id}: {tried.remedy.title} ({edits})", "  ", "    ")
        peak = of_capacity(tried.estimate.device_peak_bytes, capacity_bytes)
        time = f"step time about x{tried.step_time_factor:.2f}"
        lines.append(f"    peak {peak}: {tried.verdict.answer.words}, {time}")
    return lines


def live_notes(report: Report, model: Any) -> tuple[str, ...]:
    """Return what a live model has that the estimate does not know of."""
    if report.model is None or report.plan.is_fsdp:
        return ()  # shards do not add up to the model
    every, trained = num_live_params(model)
    expected = report.num_trainable_params or 0
    known = report.model.num_params + (expected if report.plan.adapter is not None else 0)
    notes = []
    if abs(every - known) > SAME_SHARE * known:
        notes.append(
            f"the live model has {every:,} parameters, its config describes {known:,}: the estimate is for those"
        )
    if abs(trained - expected) > SAME_SHARE * max(expected, trained):
        notes.append(
            f"{trained:,} parameters of the live model train, and the estimate is for {expected:,}"
        )
    return tuple(notes)


def refuses(report: Report, policy: Policy | Mapping[str, Any] | None) -> bool:
    """Tell whether the policy refuses a training as it is: in its own process nothing can be rewritten."""
    held = policy_of(policy, find_repository(os.getcwd()))
    return report.is_refused_by_findings or held.refuses(report.verdict.answer)


def is_first_rank() -> bool:
    """Tell whether this process speaks for the job."""
    return os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0")) in ("0", "-1")


def _text(report: Report, is_refused: bool, mode: str) -> str:
    if not is_refused:
        from preflight.render.report import head_lines

        return "\n".join(head_lines(replace(report, applied=(), rewrite=None), Page()))
    page = Page()
    lines = report_text(replace(report, applied=())).splitlines()[:-1]
    lines += change_lines(report, report.device.capacity_bytes if report.device else 0, page)
    if mode == "warn":
        return "\n".join([*lines, "next: training starts, because PREFLIGHT=warn only warns"])
    return "\n".join([*lines, "next: training was not started; PREFLIGHT=off starts it unchecked"])
