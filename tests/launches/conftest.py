"""A workplace per test, and preflight run from the command line in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from checked_launch import Preflight
from harness import Workplace, make_workplace


@pytest.fixture
def workplace(tmp_path: Path) -> Workplace:
    return make_workplace(tmp_path / "work")


@pytest.fixture
def preflight(workplace: Workplace, tmp_path: Path) -> Iterator[Preflight]:
    """Run preflight in a workplace; afterwards the user's files are what they were."""
    before = workplace.contents()
    yield Preflight(workplace, tmp_path)

    assert workplace.contents() == before
