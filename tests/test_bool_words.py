"""Each tool's words for true and false are those that the installed tool takes."""

from __future__ import annotations

import pytest

from preflight.bool_words import HF_ARGUMENT, HUB_VARIABLE, STRTOBOOL, YAML_1_1

WORDS = ("y", "yes", "t", "true", "on", "1", "n", "no", "f", "false", "off", "0", "", "2", "None")
CASES = [spelling for word in WORDS for spelling in (word, word.upper(), word.capitalize())]


@pytest.mark.parametrize("word", CASES)
def test_accelerate_reads_the_same(word):
    from accelerate.utils.environment import str_to_bool

    try:
        meant = str_to_bool(word, to_bool=True)
    except ValueError:
        meant = None
    assert STRTOBOOL.read(word) is meant


@pytest.mark.parametrize("word", CASES)
def test_transformers_argument_parser_reads_the_same(word):
    from argparse import ArgumentTypeError

    from transformers.hf_argparser import string_to_bool

    try:
        meant = string_to_bool(word)
    except ArgumentTypeError:
        meant = None
    assert HF_ARGUMENT.read(word) is meant


@pytest.mark.parametrize("word", CASES)
def test_huggingface_hub_reads_the_same(word):
    from huggingface_hub.constants import _is_true

    assert (HUB_VARIABLE.read(word) is True) is _is_true(word)


@pytest.mark.parametrize("word", CASES)
def test_pyyaml_reads_the_same(word):
    import yaml

    value = yaml.safe_load(word)

    assert YAML_1_1.read(word) is (value if isinstance(value, bool) else None)


def test_a_bool_means_itself():
    assert STRTOBOOL.read(True) is True
    assert STRTOBOOL.read(False) is False
