"""What was started for real is what is started today: the same commands, the same verdicts, and the page that shows them."""

from __future__ import annotations

import json
import shlex

import pytest

from preflight.cli import main

from .__main__ import write_files
from .record import PAGE, TABLES, recorded, shown
from .table import LAUNCHERS

RECORD = recorded()


@pytest.mark.parametrize("mark", TABLES)
def test_the_page_shows_the_record_and_the_launchers(mark):
    assert shown(mark, PAGE.read_text()) == TABLES[mark]()


def test_every_launcher_was_started_with_the_command_that_stands_here():
    commands = {name: launcher.command for name, launcher in LAUNCHERS.items()}

    assert {name: row["command"] for name, row in RECORD.items()} == commands
    assert {row["steps"] for row in RECORD.values()} == {2}


@pytest.mark.parametrize("name", LAUNCHERS)
def test_a_launch_that_trained_fits_and_one_that_was_refused_does_not(
    name, tmp_path, monkeypatch, capsys
):
    launcher = LAUNCHERS[name]
    write_files(launcher, tmp_path)
    monkeypatch.chdir(tmp_path)
    verdicts = []
    for device in (launcher.roomy, launcher.small):
        main(
            ["check", "--format", "json", "--device", device, "--", *shlex.split(launcher.command)]
        )
        verdicts.append(json.loads(capsys.readouterr().out)["verdict"])

    assert verdicts == ["fits", "does_not_fit"]
