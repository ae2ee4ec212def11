"""Releases of transformers whose layers have tables of their own: what of them no rule makes of the newest's.

A table of a release lies in a folder of its name beside the newest ones, and has only the methods by which formulas
without it are off (`python -m preflight.derive FAMILY --python VENV/bin/python`).
"""

from __future__ import annotations

from collections.abc import Mapping

from preflight.values import dataclass
from preflight.versions.boundary import NEWEST, Boundary, version_in
from preflight.versions.transformers import (
    FUSES_EXPERTS,
    GATHERS_ROWS_ONCE,
    READS_GROUPED_KEYS,
)


@dataclass(frozen=True)
class Release:
    """Releases that are alike, and the one that was traced."""

    folder: str
    """Of the tables, in preflight/formulas/costs."""
    traced: str
    """The release of transformers that they were made with."""
    since: Boundary | None
    until: Boundary

    def has(self, versions: Mapping[str, str]) -> bool:
        """Tell whether a launch has one of these releases; one that nobody named is the newest."""
        version = version_in(versions, "transformers", NEWEST)
        is_older = version < self.until.release
        return is_older and (self.since is None or version >= self.since.release)


RELEASES = (
    Release("4.53", "4.53.3", None, READS_GROUPED_KEYS),
    Release("4.57", "4.57.6", READS_GROUPED_KEYS, FUSES_EXPERTS),
    Release("5.0", "5.0.0", FUSES_EXPERTS, GATHERS_ROWS_ONCE),
)


def release_of(versions: Mapping[str, str]) -> Release | None:
    """Return the releases with tables of their own that a launch has one of; None for all others."""
    return next((release for release in RELEASES if release.has(versions)), None)
