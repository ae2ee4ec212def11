"""Manual pages keep their shape at any width."""

from __future__ import annotations

import pytest

from preflight.commands.explain import all_pages, index_lines, manual_lines, summary_of
from preflight.render.page import Page

TEXT = """\
micro_batch: fewer sequences at a time, the same
global batch.

Saves      activations in proportion; under FSDP the
           gradients are kept
Costs      smaller products
Written as two flags, and every copy
           of them
"""


def test_labels_keep_their_column_and_paragraphs_are_joined():
    assert manual_lines(TEXT, Page(120)) == [
        "  micro_batch: fewer sequences at a time, the same global batch.",
        "",
        "  Saves      activations in proportion; under FSDP the gradients are kept",
        "  Costs      smaller products",
        "  Written as two flags, and every copy of them",
    ]
    assert manual_lines(TEXT, Page(40))[3:5] == [
        "  Saves      activations in proportion;",
        "             under FSDP the gradients",
    ]


def test_a_summary_is_the_first_sentence_without_the_name():
    assert summary_of("micro_batch", TEXT) == ("fewer sequences at a time, the same global batch")
    assert (
        summary_of("lora", "lora: adapters (Hu et al. 2021). More.") == "adapters (Hu et al. 2021)"
    )
    assert summary_of("PF402", "PF401, PF402: a precision that fails. More.") == (
        "a precision that fails"
    )


@pytest.mark.parametrize("width", [40, 80])
def test_every_page_keeps_its_words_and_to_the_width(width):
    for name, text in all_pages().items():
        lines = manual_lines(text, Page(width))

        assert " ".join(lines).split() == text.split(), name
        # A path or a formula that is longer than the line stays whole, and so does a command, to be copied.
        wide = [line.strip() for line in lines if len(line) > width]
        assert all(len(line.split()) == 1 or line.strip("`.,:").count("`") == 0 for line in wide), name  # fmt: skip
        assert all(len(line.split()) == 1 or line.startswith("`") for line in wide), name
    assert index_lines({"a": "b"}, Page(width)) == ["  a  b"]


def test_a_finding_in_the_list_says_when_it_fires():
    page = "PF999 odd-key (warning)\n\nWhen      a key that nobody reads\nEffect    none"

    assert summary_of("PF999", page) == "a key that nobody reads"
