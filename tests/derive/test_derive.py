"""`python -m preflight.derive`: what is kept is what would be made, and the command says what became of each."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from preflight.derive import __main__ as command
from preflight.derive import expected, target
from preflight.derive.tables.json_rows import in_rows
from preflight.derive.tables.library_defaults import PATH as LIBRARY_DEFAULTS
from preflight.derive.tables.trainer_tables import PATH as TRAINER_TABLES
from preflight.derive.target import ROOT, Target, put_between
from preflight.derive.targets import GROUPS, PAGES, TARGETS

QUICK_PAGES = [t for t in TARGETS if t.group == PAGES and t.takes == "seconds"]


@pytest.mark.parametrize("page", QUICK_PAGES, ids=lambda page: page.name)
def test_a_page_is_what_would_be_made(page):
    made = dict(page.make(lambda words: None))

    assert made
    for path, text in made.items():
        assert (ROOT / path).read_text() == text, f"python -m preflight.derive {page.name}"


@pytest.mark.parametrize(
    ("path", "nested", "flat"),
    [(LIBRARY_DEFAULTS, (), ()), (TRAINER_TABLES, ("scripts",), ("versions",))],
)
def test_a_table_is_kept_as_it_is_written(path, nested, flat):
    text = (ROOT / path).read_text()

    assert in_rows(json.loads(text), nested, flat) == text


def test_every_module_that_makes_files_has_a_name():
    makers = {t.make.__module__.rpartition(".")[2] for t in TARGETS}
    modules = {
        path.stem
        for path in (ROOT / "preflight" / "derive").rglob("*.py")
        if ") -> Files:" in path.read_text()
    }

    # release_costs is what a family's own name makes in an environment of an older release
    assert makers | {"release_costs"} == modules
    assert {t.group for t in TARGETS} == set(GROUPS)


def test_names_are_given_once():
    names = command.names_of_everything(expected.updating_tests())

    assert len(names) == len(set(names))


@pytest.fixture
def checkout(tmp_path, monkeypatch) -> Path:
    """An empty checkout, in which the command writes."""
    monkeypatch.setattr(target, "ROOT", tmp_path)
    monkeypatch.setattr(command, "ROOT", tmp_path)
    return tmp_path


def a_target(text: str, *needs: str) -> Target:
    return Target("ours", PAGES, "a page", "ours.md", lambda say: [("ours.md", text)], needs)


def test_what_differs_is_written_and_said_with_its_lines(checkout, capsys):
    (checkout / "ours.md").write_text("one\ntwo\n")
    outcome = command.derive(a_target("one\n2\n3\n"), only_checks=False)

    assert outcome == command.CHANGED
    assert (checkout / "ours.md").read_text() == "one\n2\n3\n"
    assert "ours.md +2 -1" in capsys.readouterr().out
    assert command.derive(a_target("one\n2\n3\n"), only_checks=False) == command.AS_IT_WAS


def test_a_check_writes_nothing(checkout):
    outcome = command.derive(a_target("new\n"), only_checks=True)

    assert outcome == command.CHANGED
    assert not (checkout / "ours.md").exists()


def test_what_needs_a_library_that_is_not_here_is_skipped_with_the_reason(checkout, capsys):
    outcome = command.derive(a_target("new\n", "sys", "no_such_library"), only_checks=False)

    assert outcome == command.SKIPPED
    assert "needs no_such_library, not installed here" in capsys.readouterr().out
    assert not (checkout / "ours.md").exists()


def test_what_a_new_release_broke_is_told_and_the_rest_goes_on(checkout, capsys):
    def broken(say):
        raise AttributeError("no such field any more")

    outcome = command.derive(Target("ours", PAGES, "", "", broken), only_checks=False)
    printed = capsys.readouterr()

    assert outcome == command.FAILED
    assert "failed     AttributeError: no such field any more" in printed.out
    assert "Traceback" in printed.err


def test_a_test_that_writes_pages_is_run_and_what_it_wrote_is_named(tmp_path):
    text = expected.changed({"a": b"1", "b": b"1", "gone": b""}, {"a": b"2", "b": b"1", "new": b""})

    assert text == ["a", "gone", "new"]
    assert {"answers_page", "examples"} <= {
        name.rpartition("/")[2] for name in expected.updating_tests()
    }


def derive(*words: str) -> subprocess.CompletedProcess[str]:
    """Run the command as a person does."""
    return subprocess.run(
        [sys.executable, "-m", "preflight.derive", *words],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )


def test_the_command_checks_a_page_and_ends_with_the_rules():
    done = derive("--check", "findings")

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("findings           as it was")
    assert "rule" in done.stdout.splitlines()[-1] or "installed here" in done.stdout


def test_what_is_kept_of_a_type_and_of_a_family_is_what_comes_out_here():
    """Layout, costs and their comparison with a trace of the one, costs of the other; nothing lies otherwise after it."""
    before = expected.contents()
    done = derive("--check", "--method", "full", "arcee", "llama")

    assert done.returncode == 0, done.stdout + done.stderr
    assert [line.split()[:4] for line in done.stdout.splitlines()[:2]] == [
        ["arcee", "as", "it", "was"],
        ["llama", "as", "it", "was"],
    ]
    assert expected.changed(before, expected.contents()) == []


def test_an_environment_without_the_libraries_is_no_agreement(tmp_path):
    """A Python that cannot run the command fails; it does not say that everything is as it was."""
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nexit 3\n")
    python.chmod(0o755)
    done = derive("--check", "--method", "full", "--python", str(python), "findings")

    assert done.returncode == 3


def test_a_misspelt_name_is_told_the_near_one():
    done = derive("finding")

    assert done.returncode == 2
    assert done.stderr == (
        "finding is neither a table nor a page; did you mean findings? --list shows them\n"
    )


def test_the_list_shows_every_name():
    done = derive("--list")
    words = set(done.stdout.split())

    assert done.returncode == 0
    assert {t.name for t in TARGETS} <= words


def test_lines_are_put_between_marks_and_a_page_without_them_is_refused():
    assert put_between("a\n<\nold\n>\nb\n", "<", ">", ["new"]) == "a\n<\n\nnew\n\n>\nb\n"
    with pytest.raises(AssertionError, match="lost its marks"):
        put_between("a\nb\n", "<", ">", ["new"])
