"""Rows of a table by release, with one release more: what preflight/launchers/release_rows.py reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from preflight.versions.boundary import release


def with_release(
    section: Mapping[str, list[list[Any]]],
    found: Mapping[str, Any],
    version: str,
    releases: Sequence[str],
) -> dict[str, list[list[Any]]]:
    """Return a section with a release: each name has rows of first and last release and what it is between them.

    Releases are put in from the oldest on; one that is there already changes nothing.
    """
    merged = {name: [list(row) for row in rows] for name, rows in section.items()}
    before = releases[max(0, releases.index(version) - 1)]
    for name, entry in found.items():
        rows = merged.setdefault(name, [])
        if rows and rows[-1][2:] == entry and rows[-1][1] == before:
            rows[-1][1] = version
        elif not rows or release(rows[-1][1]) < release(version):
            rows.append([version, version, *entry])
    return {name: merged[name] for name in sorted(merged)}
