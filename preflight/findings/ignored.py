"""Which findings somebody asked not to see: a mark on the line, or the policy."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

from preflight.finding import Finding
from preflight.launch import LaunchCommand
from preflight.lazy_pattern import lazy_pattern

_MARK = lazy_pattern(r"#.*?\bpreflight:\s*ignore\b[\s:=]*((?:PF\d{3}[\s,]*)*)", re.IGNORECASE)
_PLACE = lazy_pattern(r"^(?P<path>.+?):(?P<line>\d+)\b")


def without_ignored(
    findings: Iterable[Finding], everywhere: Collection[str], command: LaunchCommand | None
) -> tuple[tuple[Finding, ...], tuple[str, ...]]:
    """Return the findings that stay, and the ids of those that somebody ignores.

    `# preflight: ignore PF203` at the end of the line that a finding points to, or alone on the line
    before it, takes that finding away; without an id it takes away every finding of the line.
    The ids of `everywhere` (`ignore: [PF203]` in a policy) go wherever they stand.
    """
    kept: list[Finding] = []
    ignored: list[str] = []
    for finding in findings:
        if finding.id in everywhere or _is_marked(finding, command):
            ignored.append(finding.id)
        else:
            kept.append(finding)
    return tuple(kept), tuple(sorted(set(ignored)))


def _is_marked(finding: Finding, command: LaunchCommand | None) -> bool:
    place = _PLACE.match(finding.where)
    if command is None or place is None:
        return False
    lines = command.readable_text(place["path"]).splitlines()
    number = int(place["line"])
    candidates = lines[number - 1 : number]
    if number >= 2 and lines[number - 2 : number - 1] and lines[number - 2].lstrip()[:1] == "#":
        candidates.append(lines[number - 2])
    for line in candidates:
        mark = _MARK.search(line)
        if mark is not None:
            ids = re.findall(r"PF\d{3}", mark[1].upper())
            return not ids or finding.id in ids
    return False
