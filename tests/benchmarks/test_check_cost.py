"""A check must be cheap enough to stand in front of every launch."""

from __future__ import annotations

from bench_check import check_cost


def test_a_70b_check_stays_small_and_imports_no_library_of_the_launch():
    """Wall time is in bench_check.py: a loaded machine would make it a coin toss here."""
    cost = check_cost()

    assert cost.exit_code in (0, 1)
    assert cost.heavy == ()
    assert cost.peak_kib * 1024 < 45_000_000
