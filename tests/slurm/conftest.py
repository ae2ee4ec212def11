"""One real Slurm cluster for all tests of this folder, and what a run says where it cannot have one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster import PACKAGES, Cluster, missing_programs, started
from guarded_site import installed, site

__all__ = ["installed", "site"]


def is_ci() -> bool:
    """Tell whether this is a build, where a test that did not run is a failure."""
    return os.environ.get("CI", "") not in ("", "false", "0")


@pytest.fixture(scope="session")
def cluster_of_session() -> Iterator[Cluster]:
    """A running Slurm; a failure in CI and a loud gap elsewhere where Slurm is not installed."""
    if missing := missing_programs():
        reason = (
            f"Slurm is not installed ({', '.join(missing)} missing): apt-get install {PACKAGES}"
        )
        if is_ci():
            pytest.fail(reason)
        pytest.skip(f"not run! THE SLURM TESTS DID NOT RUN: {reason}")
    with started(Cluster) as running:
        yield running


@pytest.fixture(autouse=True)
def own_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the guard's queue be the test's own: other tests of this user may hold turns for long."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))


@pytest.fixture
def cluster(cluster_of_session: Cluster) -> Iterator[Cluster]:
    """The running cluster, all nodes idle; a test leaves no job and no guard behind."""
    cluster_of_session.settle()
    yield cluster_of_session
    cluster_of_session.cancel_all()
    cluster_of_session.remove_guard()
