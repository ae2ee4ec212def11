"""Releases of transformers whose layers have tables of their own: what of them no rule makes of the newest's.

A table of a release lies in a folder of its name beside the newest ones, and has only the methods by which formulas
without it are off (`python -m preflight.derive FAMILY --python VENV/bin/python`).
"""

from __future__ import annotations

from collections.abc import Mapping

from preflight.values import dataclass
from preflight.versions.boundary import Boundary, has_begun
from preflight.versions.transformers import (
    FUSES_EXPERTS,
    GATHERS_ROWS_ONCE,
    HAS_BOOL_MASK,
    OLMO2_WEIGHS_IN_FP32,
    READS_GROUPED_KEYS,
    SCANS_IN_PRODUCTS,
    SOLVES_DELTA_RULE,
    SUMS_SCANS_AT_ONCE,
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
        return has_begun(self.since, versions) and not self.until.holds_in(versions)


RELEASES = (
    Release("4.51", "4.51.3", None, OLMO2_WEIGHS_IN_FP32),
    Release("4.52", "4.52.4", OLMO2_WEIGHS_IN_FP32, HAS_BOOL_MASK),
    Release("4.53", "4.53.3", HAS_BOOL_MASK, READS_GROUPED_KEYS),
    Release("4.57", "4.57.6", READS_GROUPED_KEYS, FUSES_EXPERTS),
    Release("5.0", "5.0.0", FUSES_EXPERTS, GATHERS_ROWS_ONCE),
)
SCANS = (
    Release("5.14", "5.14.1", GATHERS_ROWS_ONCE, SUMS_SCANS_AT_ONCE),
    Release("5.16", "5.16.1", SUMS_SCANS_AT_ONCE, SOLVES_DELTA_RULE),
    Release("5.17", "5.17.0", SOLVES_DELTA_RULE, SCANS_IN_PRODUCTS),
)
"""Releases of layers that scan states, which are in none of the tables above: Mamba 2's code is one up to 5.14 and one
from there to 5.17, that of gated delta rules is one up to 5.16. What is older has other experts, and could not be traced."""


def releases_of(versions: Mapping[str, str]) -> tuple[Release, ...]:
    """Return the releases whose tables a launch may have, its own first; none where it has the newest's.

    What is in no table of its own is as in the next newer one: tables are kept where that is off. Stacked experts are
    another model, so that nothing older has a table of theirs.
    """
    scans = SCANS[next((i for i, one in enumerate(SCANS) if one.has(versions)), len(SCANS)) :]
    places = [place for place, release in enumerate(RELEASES) if release.has(versions)]
    if not places:
        return scans
    own = RELEASES[places[0]]
    is_looped = own.until.release <= FUSES_EXPERTS.release
    newer = [one for one in RELEASES[places[0] + 1 :] if one.until.release <= FUSES_EXPERTS.release]
    return (own, *(newer if is_looped else ()), *scans)
