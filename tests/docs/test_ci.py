"""What CI runs is what the project claims: every Python of its classifiers, and README's own test command."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
WORKFLOW = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())


def test_the_core_runs_under_every_python_that_is_claimed():
    claimed = re.findall(r"Python :: (3\.\d+)", (ROOT / "pyproject.toml").read_text())

    assert claimed and WORKFLOW["jobs"]["core"]["strategy"]["matrix"]["python"] == claimed


def test_one_job_runs_all_that_ci_runs_here():
    assert [step["run"] for step in WORKFLOW["jobs"]["all"]["steps"] if "run" in step] == [
        ".ci/run"
    ]
    assert "make test" in (ROOT / ".ci" / "run").read_text()


def test_the_site_is_built_so_that_a_link_that_leads_nowhere_fails():
    steps = [step["run"] for step in WORKFLOW["jobs"]["site"]["steps"] if "run" in step]

    assert steps == ["make site PYTHON=python VENV=.venv-site"]
    assert "mkdocs build --strict -f .ci/mkdocs.yml" in (ROOT / "Makefile").read_text()


def test_a_container_gets_every_file_that_the_package_is_built_from():
    """`Dockerfile.dockerignore` leaves out what it does not name: pip then misses a file only where somebody builds an image."""
    named = {
        line[1:]
        for line in (ROOT / ".ci" / "Dockerfile.dockerignore").read_text().split()
        if line[0] == "!"
    }
    built = (ROOT / "pyproject.toml").read_text()
    files = set(re.findall(r'^(?:readme|license-files) = \[?"([^"]+)"', built, re.MULTILINE))

    assert len(files) == 2
    assert files | {"pyproject.toml", "preflight", "hooks", "templates", "docs"} <= named


def test_the_core_tests_are_found_and_need_no_library_of_a_launch():
    import core_tests

    names = [path.name for path in core_tests.core_tests()]

    assert len(names) > 60
    assert "test_values.py" in names and "test_real_ranks.py" not in names


def test_the_hooks_of_who_works_here_are_commands_that_exist():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]

    assert {hook["id"] for hook in hooks} == {"ruff", "ruff-format", "mypy", "floors"}
    assert (ROOT / "tests" / "test_layers.py").exists()
