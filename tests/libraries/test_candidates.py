"""The sets of versions that a launch may have: laws for whatever is said and pinned."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from said_versions import named_libraries

from preflight.libraries.candidates import unlike, version_sets
from preflight.libraries.pins import Pinned
from preflight.libraries.requirement import specifier
from preflight.libraries.resolve import Libraries, assumed_libraries
from preflight.versions.boundary import release
from preflight.versions.days import DAYS, NEEDS, OLDER_DAYS
from preflight.versions.transformers import LOADS_CHECKPOINTS_DTYPE
from preflight.versions.trl import DEFAULTS_TO_CHECKPOINTING

RELEASES = {name: sorted({day[name] for day in DAYS.values()}, key=release) for name in ("trl", "transformers", "torch", "peft")}  # fmt: skip
names = st.sampled_from(sorted(RELEASES))
exact = st.dictionaries(names, st.integers(0, 20)).map(
    lambda chosen: {n: RELEASES[n][i % len(RELEASES[n])] for n, i in chosen.items()}
)


@st.composite
def bounds(draw):
    name, operator = draw(names), draw(st.sampled_from([">=", "<=", "<", ">"]))
    read = specifier(operator + draw(st.sampled_from(RELEASES[name])))
    assert read is not None
    return name, Pinned((read,), "requirements.txt:1")


def pinned(text: str) -> Pinned:
    read = specifier(text)
    assert read is not None
    return Pinned((read,), "requirements.txt:1")


@given(exact, st.lists(bounds(), max_size=2).map(dict))
def test_every_set_keeps_what_is_said_and_each_bounds_that_can_be_kept(said, bounded):
    bounded = {name: pin for name, pin in bounded.items() if name not in said}
    sets = version_sets(said, bounded)

    assert sets
    for versions in sets:
        assert said.items() <= versions.items()
        for name, pin in bounded.items():
            is_possible = any(map(pin.allows, RELEASES[name]))
            assert pin.allows(versions[name]) or not is_possible


@given(exact)
def test_no_set_has_a_library_that_asks_for_a_newer_one_but_where_somebody_says_both(said):
    for versions in version_sets(said, {}):
        for name, since, needed, least in NEEDS:
            if {name, needed} <= said.keys() or release(versions[name]) < release(since):
                continue
            assert release(versions[needed]) >= release(least)


@given(exact)
def test_what_is_not_said_may_be_the_newest_and_the_oldest(said):
    sets = version_sets(said, {})
    # What asks for another library may rule days out.
    asking = {library for name, _, needed, _ in NEEDS for library in (name, needed)}
    for name in RELEASES.keys() - said.keys() if not asking & said.keys() else ():
        assert {RELEASES[name][0], RELEASES[name][-1]} <= {versions[name] for versions in sets}


@pytest.mark.parametrize("name", RELEASES)
@pytest.mark.parametrize("operator", ["<", "<="])
def test_a_bound_before_all_of_today_leaves_only_what_it_allows(name, operator):
    """Such a pin was passed over, and the newest release of today taken."""
    older = [day[name] for day in OLDER_DAYS.values()]
    for bound in older[1:]:
        pin = pinned(operator + bound)
        found = {versions[name] for versions in version_sets({}, {name: pin})}

        assert all(map(pin.allows, found))
        assert {each for each in older if pin.allows(each)} <= found


def test_what_is_older_than_anything_known_is_the_oldest_and_what_is_newer_the_newest():
    for pin, known in (("<1.5", "1.13.1"), (">=99", "99"), (">99", RELEASES["torch"][-1])):
        assert version_sets({}, {"torch": pinned(pin)})[-1]["torch"] == known


def test_versions_on_both_sides_of_a_change_are_among_those_that_a_bound_allows():
    """TRL turned checkpointing on in 0.22; no day has a release between 0.21 and 0.25."""
    sets = version_sets({}, {"trl": pinned(">=0.20,<0.24")})
    sides = {DEFAULTS_TO_CHECKPOINTING.holds_in(versions) for versions in sets}

    assert sides == {False, True}
    assert all(release("0.20") <= release(versions["trl"]) < release("0.24") for versions in sets)


def test_a_bound_leaves_both_sides_of_a_change_inside_it():
    libraries = Libraries(pinned={"transformers": pinned(">=4.46,<4.49")})

    assert {tuple(s.values()) for s in libraries.sets_of(("transformers",))} == {
        ("4.46",),
        ("4.48.1",),
    }
    assert libraries.version("transformers") == "4.48.1"
    assert not libraries.is_known("transformers")


def test_releases_between_which_nothing_changes_are_one():
    taken = unlike([{"transformers": v} for v in ("4.57.0", "4.57.6", "5.0.0", "5.1.0")])

    assert [versions["transformers"] for versions in taken] == ["4.57.6", "5.1.0"]
    assert [LOADS_CHECKPOINTS_DTYPE.holds_in(versions) for versions in taken] == [False, True]


def test_a_newer_release_than_any_day_is_kept():
    libraries = named_libraries({"transformers": "6.1.0", "trl": "2.0.0"})

    assert libraries.sets_of(("transformers", "trl")) == ({"transformers": "6.1.0", "trl": "2.0.0"},)  # fmt: skip


def test_assumed_versions_are_taken_and_not_known():
    libraries = assumed_libraries({"trl": "0.12.0"})

    assert libraries.version("trl") == "0.12.0"
    assert not libraries.is_known("trl")


@pytest.mark.parametrize("bound", ["", ">=4.28.1,<5", ">=4.50"])
def test_a_torch_that_is_said_leaves_the_releases_that_take_it(bound):
    """transformers passes over a torch that is older than it asks for, and trains nothing."""
    pins = {"transformers": pinned(bound)} if bound else {}
    found = {each["transformers"] for each in version_sets({"torch": "2.0.1"}, pins)}

    assert found and all(release(version) < release("4.52") for version in found)


def test_two_releases_that_somebody_says_stand_beside_each_bound_of_a_third():
    said = {"torch": "2.0.1", "transformers": "4.57.3"}
    pins = {"trl": pinned("<0.26")}
    alone = {
        versions["trl"]
        for versions in version_sets({"torch": "2.9.1", "transformers": "4.57.3"}, pins)
    }

    assert {versions["trl"] for versions in version_sets(said, pins)} == alone
