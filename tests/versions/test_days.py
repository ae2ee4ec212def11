"""The days are in order, each could be installed, and together they have every default that moved."""

from __future__ import annotations

from itertools import pairwise

import pytest

from preflight.scripts.arguments.trainer_versions import DEFAULT_CHANGES, default_of
from preflight.versions.boundary import release
from preflight.versions.days import DAYS, NEEDS, OLDER_DAYS
from preflight.versions.installed import KNOWN_VERSIONS

ROWS = list(DAYS.values())


def test_releases_only_get_newer_up_to_those_that_preflight_was_checked_against():
    for before, after in pairwise([*OLDER_DAYS.values(), *ROWS]):
        assert all(release(before[name]) <= release(after[name]) for name in before)

    assert [*OLDER_DAYS, *DAYS] == sorted({*OLDER_DAYS, *DAYS})
    assert all(ROWS[-1][name] == KNOWN_VERSIONS[name] for name in ROWS[-1])


@pytest.mark.parametrize("day", DAYS)
def test_what_came_together_goes_together(day):
    for name, since, needed, least in NEEDS:
        if release(DAYS[day][name]) >= release(since):
            assert release(DAYS[day][needed]) >= release(least)


@pytest.mark.parametrize(
    ("library", "name"), sorted({(c.library, c.name) for c in DEFAULT_CHANGES})
)
def test_every_default_that_moved_is_one_of_some_day(library, name):
    every = [change.value for change in DEFAULT_CHANGES if (change.library, change.name) == (library, name)]  # fmt: skip
    found = [default_of(library, name, day[library]) for day in ROWS]

    assert [value for value in every if value not in found] == []
