"""The merge of a torchtune config and its overrides, held to what OmegaConf 2.3.0 and torchtune 0.6.1 made of them.

Expected values were printed on 2026-11-25 by torchtune's own _merge_yaml_and_cli_args.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from preflight.errors import Problem
from preflight.formats.load import load_yaml
from preflight.launch import LaunchCommand
from preflight.launchers.torchtune.config import TuneConfig, resolved, with_words

FILE = """model:
  _component_: lab.big
  rank: 8
plain:
  names: [a, b]
  deep:
    x: 1
text: pre-${model.rank}-post
same: ${plain.deep.x}
beside:
  here: ${.there}
  there: 5
home: ${oc.env:WORK}
other: ${oc.env:MISSING,fallback}
"""


def merged(*words: str) -> tuple[Mapping[str, Any], tuple[Problem, ...]]:
    document = load_yaml(FILE, "c.yaml")
    reading = with_words(TuneConfig(document.value, document, "c.yaml"), list(enumerate(words)))
    config = resolved(reading.value, LaunchCommand(("tune",), {"WORK": "/w"}, "/"))
    return config.values, reading.problems


@pytest.mark.parametrize(
    ("word", "key", "value"),
    [
        ("a=yes", "a", True),
        ("a=on", "a", True),
        ("a=NO", "a", False),
        ("a=null", "a", None),
        ("a=None", "a", None),
        ("a=", "a", None),
        ("a=[1,2]", "a", [1, 2]),
        ("a={b: 1}", "a", {"b": 1}),
        ("a='x'", "a", "x"),
        ("a=0x10", "a", 16),
        ("a=1_000", "a", 1000),
        ("a=08", "a", "08"),
        ("model=lab.small", "model", {"_component_": "lab.small", "rank": 8}),
        ("model.rank=64", "text", "pre-64-post"),
        ("plain.names=[c]", "plain", {"names": ["c"], "deep": {"x": 1}}),
        ("plain={deep: {y: 2}}", "plain", {"names": ["a", "b"], "deep": {"x": 1, "y": 2}}),
        ("plain.deep.x=7", "same", 7),
        ("~plain.names", "plain", {"deep": {"x": 1}}),
        ("new.key=3", "new", {"key": 3}),
    ],
)
def test_an_override_is_what_omegaconf_makes_of_it(word, key, value):
    values, problems = merged(word)

    assert values.get(key) == value
    assert problems == ()


def test_interpolations_are_filled_in_from_the_file_and_the_environment():
    values, _ = merged()

    assert (values["text"], values["same"], values["beside"]["here"]) == ("pre-8-post", 1, 5)
    assert (values["home"], values["other"]) == ("/w", "fallback")


@pytest.mark.parametrize(
    "word", ["~model", "~missing.key", "a=b=c", "batch_size", "--batch_size", "~plain.nothing"]
)
def test_what_torchtune_refuses_on_its_line_is_refused(word):
    _, problems = merged(word)

    assert [problem.where for problem in problems] == [word]


def test_the_last_of_two_words_counts():
    values, _ = merged("model.rank=1", "model.rank=2")

    assert values["model"]["rank"] == 2


def test_an_emptied_section_goes_with_its_last_key():
    values, _ = merged("~plain.deep.x")

    assert values["plain"] == {"names": ["a", "b"]}
