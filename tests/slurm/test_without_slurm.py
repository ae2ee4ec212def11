"""A run without Slurm says loudly that its tests did not run, and a build fails."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

A_TEST = f"{Path(__file__).parent / 'test_cluster.py'}::test_a_type_that_no_node_has_is_refused"


def run_without_slurm(ci: str) -> subprocess.CompletedProcess[str]:
    """Run one Slurm test where no program of Slurm is on the path."""
    env = {**os.environ, "PATH": os.path.dirname(sys.executable), "CI": ci}
    words = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", A_TEST)
    return subprocess.run(words, env=env, capture_output=True, text=True, timeout=120)


def test_a_run_without_slurm_says_so_at_its_end():
    run = run_without_slurm(ci="")

    assert run.returncode == 0, run.stdout
    assert "THE SLURM TESTS DID NOT RUN" in run.stdout
    assert "apt-get install slurmctld" in run.stdout


def test_a_build_without_slurm_fails():
    run = run_without_slurm(ci="true")

    assert run.returncode == 1
    assert "Slurm is not installed (sbatch" in run.stdout
