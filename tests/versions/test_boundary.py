"""How versions compare, and that every rule about them stands in preflight/versions with its evidence."""

from __future__ import annotations

import ast

import pytest
from own_sources import own_trees

from preflight.derive.tables.version_rules import boundaries, read_in_older_ones
from preflight.versions.boundary import NEWEST, OLDEST, Boundary, has_begun, release, version_in

FIVE = Boundary("trl", "5.0", "something", "somewhere")
BOUNDARIES = boundaries()


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("5.24.0", (5, 24, 0)),
        ("5", (5, 0, 0)),
        ("2.13.0+cpu", (2, 13, 0)),
        ("1.0.0rc1", (1, 0, 0)),
        ("4.53.0.dev0", (4, 53, 0)),
        ("0.19.8+unknown", (0, 19, 8)),
        ("main", NEWEST),
    ],
)
def test_a_version_is_its_first_three_numbers(text, numbers):
    assert release(text) == numbers


def test_a_release_candidate_is_not_the_patch_of_its_number():
    masks = Boundary("transformers", "4.53.3", "something", "somewhere")

    assert not masks.holds_in({"transformers": "4.53.0rc3"})


@pytest.mark.parametrize(
    ("versions", "holds"),
    [
        ({"trl": "5"}, True),
        ({"trl": "5.0.0"}, True),
        ({"trl": "4.99.9"}, False),
        ({"trl": "main"}, True),
        ({"torch": "1.0"}, True),
        ({}, True),
    ],
)
def test_a_boundary_holds_from_its_release_on_and_where_nobody_said_one(versions, holds):
    assert FIVE.holds_in(versions) is holds


def test_what_ended_holds_between_its_two_releases():
    ended = Boundary("trl", "5.0", "something", "somewhere", until="5.2")
    answers = [ended.holds_in({"trl": version}) for version in ("4.9", "5.0", "5.1.9", "5.2", "6")]

    assert answers == [False, True, True, False, False]


def test_who_asks_may_take_a_library_that_nobody_named_to_be_the_oldest():
    assert version_in({}, "trl", OLDEST) == OLDEST
    assert not FIVE.holds_in({}, OLDEST)
    assert FIVE.holds_in({"trl": "main"}, OLDEST)


def test_a_row_without_a_boundary_holds_from_the_beginning():
    assert has_begun(None, {}, OLDEST)
    assert not has_begun(FIVE, {}, OLDEST)


@pytest.mark.parametrize(("module", "name"), BOUNDARIES)
def test_a_boundary_stands_with_its_library_and_says_where_it_was_read(module, name):
    boundary = BOUNDARIES[module, name]

    assert f"{module}_".startswith(f"{boundary.library}_")
    assert boundary.what and boundary.evidence
    assert release(boundary.newest_reading) >= boundary.release != NEWEST
    assert not boundary.until or release(boundary.until) > release(boundary.newest_reading)


def test_boundaries_of_a_library_stand_in_the_order_of_their_releases():
    for module in {module for module, _ in BOUNDARIES}:
        releases = [one.release for (other, _), one in BOUNDARIES.items() if other == module]

        assert releases == sorted(releases)


def test_a_rule_that_was_read_in_an_older_release_is_found():
    found = read_in_older_ones({"trl": "6.1.0"}, {("trl", "FIVE"): FIVE})

    assert list(found) == [("trl", "FIVE")]
    assert not read_in_older_ones({"trl": "5.0.4"}, {("trl", "FIVE"): FIVE})
    assert not read_in_older_ones({"torch": "9.0"}, {("trl", "FIVE"): FIVE})


def is_version(node: ast.AST) -> bool:
    """Tell whether an expression is a version written out: two or three numbers."""
    return (
        isinstance(node, ast.Tuple)
        and len(node.elts) in (2, 3)
        and all(isinstance(each, ast.Constant) and type(each.value) is int for each in node.elts)
    )


ORDER = (ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.Eq)
NOT_OF_A_LIBRARY = {"sys.version_info", "capability"}


def written_versions(tree: ast.AST) -> list[str]:
    """Return the comparisons of a module with a version that is written out, and names of such a version."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare) and isinstance(node.ops[0], ORDER):
            sides = [node.left, *node.comparators]
            if any(map(is_version, sides)):
                words = {ast.unparse(side) for side in sides}
                found += [] if words & NOT_OF_A_LIBRARY else [ast.unparse(node)]
        elif isinstance(node, ast.Assign) and is_version(node.value):
            found += [name for name in map(ast.unparse, node.targets) if name.endswith("SINCE")]
    return found


def test_no_version_is_compared_with_numbers_written_on_the_spot():
    assert written_versions(ast.parse("new = release(text) >= (5, 0)")) == [
        "release(text) >= (5, 0)"
    ]
    wrong = {
        path: found
        for path, tree in own_trees()
        if not path.startswith("preflight/versions/") and (found := written_versions(tree))
    }

    assert wrong == {}, "a Boundary in preflight/versions says it, with its evidence"
