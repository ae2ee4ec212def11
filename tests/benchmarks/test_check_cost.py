"""A check must be cheap enough to stand in front of every launch."""

from __future__ import annotations

import resource
import subprocess
import sys

from bench_check import CHECK, HERE, check_cost

MOST_OWN_MODULES = 357
"""Modules of preflight that a check of a 70B launch imports, all of them: one more has to be needed there."""
MOST_OF_PYTHON = 16
"""CPU time of a check over that of `python -c "import yaml, pluggy"`, the best of five rounds each, taken in turn.

Measured 5 to 7 on an idle core of 2026; the bound is wide, since it is to catch a library that is imported again, and
no toss of a coin."""
ROUNDS = 5


def test_a_70b_check_stays_small_and_imports_no_library_of_the_launch():
    """Wall time is in bench_check.py: a loaded machine would make it a coin toss here."""
    cost = check_cost()

    assert cost.exit_code in (0, 1)
    assert cost.heavy == ()
    assert cost.peak_kib * 1024 < 45_000_000
    assert 100 < cost.num_own_modules <= MOST_OWN_MODULES


def cpu_seconds(*arguments: str) -> float:
    """Return the CPU time, user and system, that a Python of these arguments takes."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], cwd=HERE / "zero3-70b", capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_a_check_takes_a_few_times_what_its_two_libraries_take_to_import():
    checks, imports = [], []
    for _ in range(ROUNDS):
        imports.append(cpu_seconds("-c", "import yaml, pluggy"))
        checks.append(cpu_seconds("-m", "preflight.cli", *CHECK))

    assert min(checks) < MOST_OF_PYTHON * min(imports), (checks, imports)
