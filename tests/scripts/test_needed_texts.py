"""A sign is looked for wherever its pattern may find something: the table of texts leaves none out."""

from __future__ import annotations

import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from preflight.derive.tables import needed_texts
from preflight.derive.target import read
from preflight.own_tables import table_beside
from preflight.scripts.uncounted import sign_words
from preflight.scripts.uncounted.sign_words import PATTERNS, SIGNS, UNPRICED, signs_in

KEPT = table_beside(sign_words.__file__, "needed_texts.json")["signs"]


def test_the_table_is_what_the_patterns_ask():
    assert dict(needed_texts.files(print)) == {needed_texts.PATH: read(needed_texts.PATH)}
    assert len(PATTERNS) == len(SIGNS) + len(UNPRICED) + 1


@pytest.mark.parametrize("name", PATTERNS)
@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_whatever_a_pattern_finds_has_one_of_its_texts(name, data):
    pattern = re.compile(PATTERNS[name])
    found = data.draw(st.from_regex(pattern).filter(pattern.search))

    assert name in signs_in(found)


@pytest.mark.parametrize(
    ("pattern", "texts"),
    [
        (r"\bload_in_[48]bit|bnb\b", {"load_in_4bit", "load_in_8bit", "bnb"}),
        (r"(?:DPO|KTO)Trainer\(", {"dpotrainer(", "ktotrainer("}),
        (r"(?i)Ring_(?:flash_)?attn", {"ring_attn", "ring_flash_attn"}),
        (r"re(?!x)quires\s*=\s*\w+_grad", {"requires"}),
        (r"\w*(?:model|net)\w*\.parallelize\(", {".parallelize("}),
        (r"(?:images?|image_sizes)\b", {"image"}),
        (r"(?:quantize)+d", {"quantize"}),
        (r"(?:quantize)*d", set()),
        (r"quantize|\d+", set()),
        (r"quantize|ab", set()),
        (r"[^a]bc\w", set()),
    ],
)
def test_what_is_needed_is_the_most_telling_part(pattern, texts):
    assert needed_texts.needed_texts(pattern) == texts
