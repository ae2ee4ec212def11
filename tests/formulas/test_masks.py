"""What a mask costs: windows that end before the sequence, in families that were traced without, and padded batches."""

from __future__ import annotations

from dataclasses import replace

import pytest

from preflight.derive.costs.formula_table import compare
from preflight.derive.layouts.small_models import small_config, small_launch
from preflight.derive.layouts.small_sizes import NUM_VARIANTS
from preflight.formulas.layers.layer_costs import layer_costs
from preflight.formulas.precision import precision_of
from preflight.models import describe

LENGTH = 1056
WINDOW = {"sliding_window": 96}


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


@pytest.mark.parametrize(
    ("release", "query_bytes", "key_bytes"),
    [("4.48.1", 10, 0), ("4.53.3", 10, 0), ("4.54.1", 6, 4), ("4.57.6", 4, 4), ("5.24.0", 4, 4)],
)
def test_sdpa_keeps_what_its_release_copies(release, query_bytes, key_bytes):
    """Bytes per token of queries, keys, values and outputs, as traces of Llama in those releases have them."""
    model = describe(small_config("llama", NUM_VARIANTS), "small", "here")
    new = small_launch("llama", "full", False)
    old = replace(new, versions={"transformers": release})
    unit = model.layers[0]
    more = (
        layer_costs(old, model, unit, precision_of(old, model)).saved
        - layer_costs(new, model, unit, precision_of(new, model)).saved
    )
    queries, keys = unit.layer.query_size, unit.layer.kv_size

    assert more == (query_bytes - 4) * queries + (key_bytes - 4) * keys


@pytest.mark.parametrize("release", ["4.53.3", "4.56.2", "4.57.6"])
def test_a_mask_leaves_nothing_to_copy_in_any_release(release):
    """Its kernel returns tokens in order; traces of 4.53.3 and 4.57.6 keep the same, and one copy of queries less than
    what was counted before."""
    model = describe(small_config("llama", NUM_VARIANTS), "small", "here")
    new = small_launch("llama", "full", False, sequence_kind="padded")
    old = replace(new, versions={"transformers": release})

    def saved(plan) -> int:
        return layer_costs(plan, model, model.layers[0], precision_of(plan, model)).saved

    assert saved(old) == saved(new)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_eager_attention_has_masks_where_no_window_ends_before_the_sequence(plugins, checkpointing):
    """Gemma 2 adds a mask to its scores whatever its window: only SDPA leaves one out (masking_utils.py, 5.24.0)."""
    config = {"sliding_window": 4096}
    found = compare("gemma2", "full", checkpointing, plugins, config, seq_len=512)

    assert max(abs(compared.error) for compared in found) < 0.001
