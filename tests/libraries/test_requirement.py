"""What a pin allows, against pip's own reading of it and poetry's and conda's rules."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.specifiers import SpecifierSet

from preflight.libraries.requirement import specifier

numbers = st.lists(st.integers(0, 6), min_size=1, max_size=3).map(lambda n: ".".join(map(str, n)))
whole = st.lists(st.integers(0, 6), min_size=3, max_size=3).map(lambda n: ".".join(map(str, n)))
clauses = st.one_of(
    st.tuples(st.sampled_from(["==", "!=", "<", "<=", ">", ">="]), numbers).map("".join),
    st.tuples(st.sampled_from(["==", "!="]), numbers, st.just(".*")).map("".join),
    numbers.filter(lambda n: "." in n).map("~={}".format),
)


@given(st.lists(clauses, min_size=1, max_size=3), whole)
def test_a_pin_allows_what_pip_installs(parts, version):
    read = specifier(", ".join(parts))

    assert read is not None
    assert read.allows(version) == SpecifierSet(",".join(parts)).contains(version)


@pytest.mark.parametrize(
    ("text", "allowed", "refused"),
    [
        ("^1.2.3", ["1.2.3", "1.9.0"], ["1.2.2", "2.0.0"]),
        ("^0.18.1", ["0.18.1", "0.18.9"], ["0.19.0", "0.18.0"]),
        ("^0.0.3", ["0.0.3"], ["0.0.4"]),
        ("~1.2.3", ["1.2.9"], ["1.3.0"]),
        ("~1", ["1.9.0"], ["2.0.0"]),
        ("=4.46", ["4.46.0", "4.46.3"], ["4.47.0"]),  # conda's
        ("=4.46.1", ["4.46.1"], ["4.46.2"]),
        ("4.46.*", ["4.46.3"], ["4.47.0"]),
        ("1.2.3", ["1.2.3"], ["1.2.4"]),
        ("*", ["0.1.0", "9.0.0"], []),
        ("(>=2.0)", ["2.1.0"], ["1.9.0"]),
        ("==2.5.1+cu121", ["2.5.1"], ["2.5.0"]),
        ("==0.17.0.dev0", ["0.17.0"], ["0.16.0"]),
    ],
)
def test_poetrys_and_condas_own_ways(text, allowed, refused):
    read = specifier(text)

    assert read is not None
    assert all(map(read.allows, allowed))
    assert not any(map(read.allows, refused))


@pytest.mark.parametrize("text", [">=1 || <0.5", "latest", "==$VERSION", "@main"])
def test_what_is_written_in_no_known_way_is_no_pin(text):
    assert specifier(text) is None
