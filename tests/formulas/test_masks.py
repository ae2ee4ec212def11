"""What a mask costs: windows that end before the sequence, in families that were traced without, and padded batches."""

from __future__ import annotations

import pytest

from preflight.derive.formula_table import compare
from preflight.plugins import load_plugins

LENGTH = 1056
WINDOW = {"sliding_window": 96}


@pytest.fixture(scope="module")
def plugins(tmp_path_factory):
    return load_plugins(str(tmp_path_factory.mktemp("here")))


def peaks(found) -> tuple[int, int]:
    return max(c.formula_bytes for c in found), max(c.traced_bytes for c in found)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize(
    ("model_type", "config"),
    [
        ("mistral", WINDOW),
        ("phi3", WINDOW),
        ("mixtral", WINDOW),
        ("starcoder2", WINDOW),
        ("qwen2", {**WINDOW, "use_sliding_window": True, "max_window_layers": 1}),
    ],
)
def test_a_window_brings_a_mask_and_repeated_keys(plugins, model_type, config, checkpointing):
    """Without them a long sequence is up to a fifth too low."""
    found = compare(model_type, "full", checkpointing, plugins, config, seq_len=LENGTH)
    formula, traced = peaks(found)

    assert formula == pytest.approx(traced, rel=0.001)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("model_type", ["llama", "phi3", "gpt2"])
def test_padding_brings_them_too(plugins, model_type, checkpointing):
    found = compare(
        model_type, "full", checkpointing, plugins, sequence_kind="padded", seq_len=LENGTH
    )
    formula, traced = peaks(found)

    assert formula == pytest.approx(traced, rel=0.001)


def test_flash_attention_takes_no_mask(plugins):
    found = compare(
        "mistral", "full", False, plugins, WINDOW, attention="flash_attention_2", seq_len=LENGTH
    )
    formula, traced = peaks(found)

    assert formula == pytest.approx(traced, rel=0.001)
