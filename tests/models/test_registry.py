"""The registry: every count is what its config adds up to, lookups are forgiving and cheap."""

from __future__ import annotations

import pytest
from reference_loop import least_seconds, loop_seconds

from preflight.models import describe, lays_out
from preflight.models.registry import all_models, all_names, find_model, similar_models

ENTRIES = list(all_models())


def test_the_registry_holds_162_models_and_no_name_twice():
    names = [name.lower() for name in all_names()]

    assert len(ENTRIES) == 162
    assert len(names) == len(set(names))


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.id)
def test_the_tensors_of_a_model_add_up_to_its_exact_count(entry):
    """A family without a layout is one block of that many parameters, and says so."""
    spec = describe(entry.config, entry.id, "the registry", entry.num_params)

    assert sum(unit.num_params * unit.count for unit in spec.units) == entry.num_params
    assert spec.num_params == entry.num_params
    assert spec.config_dtype is not None
    assert spec.is_decoder_lm is lays_out(entry.config)
    assert (spec.facts.get("layout") == "none") is not lays_out(entry.config)


@pytest.mark.parametrize("entry", [e for e in ENTRIES if lays_out(e.config)], ids=lambda e: e.id)
def test_a_laid_out_model_needs_no_count_beside_its_config(entry):
    spec = describe(entry.config, entry.id, "a file")

    assert spec.num_params == entry.num_params
    assert sum(unit.count for unit in spec.layers) == spec.num_layers
    assert all(unit.layer is not None for unit in spec.layers)
    assert spec.layer_classes


def test_most_of_the_registry_is_laid_out():
    counted_only = {e.config["model_type"] for e in ENTRIES if not lays_out(e.config)}

    assert counted_only == {
        "bert",
        "gemma3n_text",
        "gemma4",
        "modernbert",
        "roberta",
        "t5",
        "vit",
        "whisper",
    }


@pytest.mark.parametrize(
    ("spelling", "wanted"),
    [
        ("meta-llama/Llama-3.1-8B", "meta-llama/Llama-3.1-8B"),
        ("META-LLAMA/llama-3.1-8b", "meta-llama/Llama-3.1-8B"),
        ("meta-llama/Llama-3.1-8B-Instruct", "meta-llama/Llama-3.1-8B"),
        ("gpt2", "openai-community/gpt2"),
        ("Qwen/QwQ-32B/", "Qwen/Qwen2.5-32B"),
    ],
)
def test_a_model_is_found_in_any_case_and_by_its_aliases(spelling, wanted):
    entry = find_model(spelling)

    assert entry is not None
    assert entry.id == wanted


def test_the_last_part_of_an_id_is_a_suggestion_and_no_match():
    assert find_model("Llama-3.1-8B") is None
    assert similar_models("mine/Llama-3.1-8B")[0] == "meta-llama/Llama-3.1-8B"
    assert similar_models("Qwen/Qwen3-8b-it")
    assert similar_models("zzz/entirely-else") == ()


def test_a_lookup_costs_less_than_a_few_milliseconds():
    """One line is parsed, not 162; measured as the best of five, the file's first read apart.

    A four-hundredth of the loop was taken when the bound was chosen.
    """
    find_model("gpt2")

    best = least_seconds(lambda: find_model("llava-hf/llava-1.5-7b-hf"), 5)

    assert best < loop_seconds() / 50


def test_every_entry_says_where_its_sizes_were_read():
    assert all(entry.source for entry in ENTRIES)
    assert {entry.checked for entry in ENTRIES} == {
        "exact",
        "rounded",
        "within 6 %",
        "library defaults",
    }
