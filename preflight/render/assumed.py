"""What nobody said of a launch: guesses with their reason, each library's defaults, and the versions that are taken."""

from __future__ import annotations

import re

from preflight.launch import SCRIPT_DECIDES, Origin
from preflight.libraries.resolve import HERE
from preflight.plan_parts import NOTHING_SAYS
from preflight.render.page import Page
from preflight.render.words import NOT_STATED, plan_value
from preflight.report import Report
from preflight.versions.boundary import release


def assumed_lines(report: Report, page: Page) -> list[str]:
    """Return every value that nobody gave: guesses with their reason, then each library's defaults together."""
    guesses, unseen = [], []
    defaults: dict[str, list[str]] = {}
    for name, origin in sorted(report.plan.origins.items()):
        if not origin.assumed or report.is_idle(name):
            continue
        written = plan_value(report.plan, name)
        reason = (origin.reason or origin.where).partition("; ")[0]
        shown = f"{name} {written}" if written != NOT_STATED else f"{name} ({reason})"
        library = origin.where.removeprefix("default of ")
        if name == "versions":
            continue  # said with each library
        if name.startswith("versions."):
            unseen.append(_assumed_version(report, name.partition(".")[2], origin))
        elif origin.where.startswith("default of ") and " " in library:
            defaults.setdefault(f"defaults of {library}", []).append(shown)
        elif origin.where in (SCRIPT_DECIDES, NOTHING_SAYS):
            defaults.setdefault(origin.where, []).append(shown)
        else:
            guesses.append(shown if written == NOT_STATED else f"{shown} ({origin.reason})")
    like = None if report.model is None else report.model.like
    if like is not None and like.is_guess:
        guesses.append(f"model as {like.model} ({like.evidence})")
    if report.device is not None and report.device.is_assumed:
        guesses.append(f"device {report.device.name} ({report.device.source})")
    parts = ["; ".join(guesses)] if guesses else []
    parts += [f"{whose}: {', '.join(names)}" for whose, names in defaults.items()]
    if unseen:
        parts.append(f"versions, which nothing says: {', '.join(unseen)}")
    lines: list[str] = []
    for part in parts:
        lines += page.wrap(part, "  ", "    ") if lines else page.wrap(f"assumed: {part}")
    return lines


def _assumed_version(report: Report, library: str, origin: Origin) -> str:
    """Return a library with the oldest and the newest version that it may have."""
    plan = report.plan
    taken = plan.versions.get(library, "")
    others = [other.versions.get(library, "") for other in plan.version_readings]
    versions = sorted(
        (taken, *(v for v in others if v and release(v) != release(taken))), key=release
    )
    span = f"{library} {versions[0]} to {versions[-1]}" if versions[1:] else origin.where
    return f"{span} ({origin.reason})" if " asks for " in origin.reason else span


def version_lines(report: Report, page: Page) -> list[str]:
    """Return where the versions of the libraries come from, where that is not the Python that preflight runs in."""
    by_place: dict[str, list[str]] = {}
    for library, version in report.plan.versions.items():
        origin = report.plan.origins.get(f"versions.{library}")
        if origin is not None and not origin.assumed and origin.where != HERE:
            place = re.sub(r":\d+$", "", origin.where)
            by_place.setdefault(place, []).append(f"{library} {version}")
    if not by_place:
        return []
    named = (f"{', '.join(names)} ({place})" for place, names in by_place.items())
    return page.wrap(f"versions: {'; '.join(named)}")
