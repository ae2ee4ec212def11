"""What Hydra composes of a configuration and a command line is what Hydra itself answered."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from preflight.formats.hydra import UNRESOLVED, NotComposed, composed, read_words
from preflight.launch import LaunchCommand

FOLDER = Path(__file__).parent / "hydra"
CASES = json.loads((FOLDER / "cases.json").read_text())


def values_of(case: str, folder: Path = FOLDER, env: dict[str, str] | None = None):
    name, *words = case.split()
    command = LaunchCommand(argv=tuple(words), env=env or {}, cwd=str(folder))
    found = composed(command, ".", name, read_words(words, 0))
    return {key: "???" if s.value is UNRESOLVED else s.value for key, s in found.items()}


@pytest.mark.parametrize("case", CASES)
def test_a_configuration_is_what_hydra_composes(case):
    assert values_of(case) == CASES[case]


def test_a_variable_of_the_environment_is_put_in():
    assert values_of("config", env={"ROWS_AT": "there"})["where"] == "there"


@pytest.mark.parametrize("case", ["config model=absent", "absent"])
def test_a_file_that_is_not_here_is_said(case):
    with pytest.raises(NotComposed):
        values_of(case)


def test_what_refers_to_itself_is_not_known(tmp_path):
    (tmp_path / "a.yaml").write_text("b: ${c}\nc: ${b}\nd: ${own:thing}\ne: x${f}\n")

    assert set(values_of("a", tmp_path).values()) == {"???"}


def test_files_that_name_each_other_end(tmp_path):
    (tmp_path / "a.yaml").write_text("defaults: [a]\n")

    with pytest.raises(NotComposed):
        values_of("a", tmp_path)


def test_words_are_options_overrides_and_the_rest():
    words = read_words(["-cn", "b", "--config-path=c", "x.y=[1, 2]", "~z", "odd", "-m"], 0)

    assert (words.options, words.unread) == ({"name": "b", "path": "c"}, ("odd",))
    assert [(sign, key, s.value) for sign, key, s in words.given] == [
        ("", "x.y", [1, 2]),
        ("~", "z", None),
    ]
