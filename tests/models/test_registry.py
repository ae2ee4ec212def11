"""The registry: every count is what its config adds up to, lookups are forgiving, and read a small part of it."""

from __future__ import annotations

import builtins
import io
from collections import Counter
from pathlib import Path

import pytest
from reference_loop import least_seconds, loop_seconds

from preflight import check
from preflight.models import describe, lays_out
from preflight.models.families.description import headless_class
from preflight.models.families.library_defaults import family_table
from preflight.models.name_rules import owner_of
from preflight.models.registry import (
    EVIDENCE,
    MODELS,
    NAMES,
    SAME,
    all_models,
    all_names,
    find,
    find_model,
    line_key,
    models_like,
)

ENTRIES = list(all_models())
OTHERS = list(all_names())
BY_ID = {entry.id: entry for entry in ENTRIES}


def test_the_registry_holds_650_models_and_4400_other_names_and_no_name_twice():
    names = [name.lower() for name in (*BY_ID, *(other.name for other in OTHERS))]

    assert len(ENTRIES) >= 650
    assert len(OTHERS) >= 4400
    assert len(names) == len(set(names))


def test_every_other_name_is_of_a_model_that_is_there_and_says_how_that_is_known():
    assert {other.model for other in OTHERS} <= {*BY_ID}
    assert {other.evidence for other in OTHERS} == {*EVIDENCE} - {"sibling", "folder", "output"}


@pytest.mark.parametrize("path", [MODELS, NAMES])
def test_both_files_are_in_the_order_that_a_lookup_takes_them_to_be_in(path):
    with open(path, encoding="utf-8") as file:
        lines = [line for line in file if not line.startswith("#")]

    assert lines == sorted(lines, key=line_key), "preflight.derive.add_model puts lines in order"


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.id)
def test_the_tensors_of_a_model_add_up_to_its_exact_count(entry):
    """A family without a layout is one block of that many parameters, and says so."""
    spec = describe(entry.config, entry.id, "the registry", entry.num_params)

    assert sum(unit.num_params * unit.count for unit in spec.units) == entry.num_params
    assert spec.num_params == entry.num_params
    assert spec.is_decoder_lm is not (
        "headless" in spec.facts or spec.facts.get("layout") == "none"
    )
    assert spec.is_decoder_lm or not lays_out(entry.config) or headless_class(entry.config)


LAID_OUT = [e for e in ENTRIES if lays_out(e.config) and not headless_class(e.config)]


@pytest.mark.parametrize("entry", LAID_OUT, ids=lambda entry: entry.id)
def test_a_laid_out_model_needs_no_count_beside_its_config(entry):
    spec = describe(entry.config, entry.id, "a file")

    assert spec.num_params == entry.num_params
    assert sum(unit.count for unit in spec.layers) == spec.num_layers
    assert all(unit.layer is not None for unit in spec.layers)
    table = family_table(spec.model_type)
    assert spec.layer_classes or (table and not table["layer_classes"])  # its class names none


def test_most_of_the_registry_is_laid_out_and_equals_a_published_count():
    checked = Counter(entry.checked for entry in LAID_OUT)

    assert len(LAID_OUT) > len(ENTRIES) / 2
    assert checked["exact"] > 0.8 * len(LAID_OUT)


@pytest.mark.parametrize(
    ("spelling", "wanted"),
    [
        ("meta-llama/Llama-3.1-8B", "meta-llama/Llama-3.1-8B"),
        ("META-LLAMA/llama-3.1-8b", "meta-llama/Llama-3.1-8B"),
        ("meta-llama/Llama-3.1-8B-Instruct", "meta-llama/Llama-3.1-8B"),
        ("gpt2", "openai-community/gpt2"),
        ("Qwen/QwQ-32B/", "Qwen/Qwen2.5-32B"),
        # Names of public launches that were not known, or taken for a model of another size.
        ("codellama/CodeLlama-7b-Instruct-hf", "codellama/CodeLlama-7b-hf"),
        ("google/gemma-4-31B", "google/gemma-4-31B-it"),
        ("google/gemma-4-26B-A4B", "google/gemma-4-26B-A4B-it"),
        ("NousResearch/Llama-3.2-1B", "meta-llama/Llama-3.2-1B"),
        ("NousResearch/Hermes-3-Llama-3.1-8B", "meta-llama/Llama-3.1-8B"),
        ("mistral-community/Mixtral-8x22B-v0.1", "mistralai/Mixtral-8x22B-v0.1"),
        ("huggyllama/llama-7b", "huggyllama/llama-7b"),
        ("lmsys/vicuna-13b-v1.5", "meta-llama/Llama-2-13b-hf"),
        ("HuggingFaceTB/SmolLM3-3B-Base", "HuggingFaceTB/SmolLM3-3B"),
        ("mistralai/Magistral-Small-2506", "mistralai/Mistral-Small-24B-Instruct-2501"),
        ("mistralai/Devstral-Small-2507", "mistralai/Mistral-Small-24B-Instruct-2501"),
        ("allenai/Olmo-3-7B-Instruct-SFT", "allenai/Olmo-3-1025-7B"),
        ("open-r1/Qwen2.5-Math-7B-RoPE-300k", "Qwen/Qwen2.5-7B"),
        ("bert-base-cased", "google-bert/bert-base-cased"),
    ],
)
def test_a_model_is_found_in_any_case_and_by_its_other_names(spelling, wanted):
    entry = find_model(spelling)

    assert entry is not None
    assert entry.id == wanted


@pytest.mark.parametrize(
    ("name", "model", "evidence", "packing"),
    [
        ("Qwen/Qwen3-8B-it", "Qwen/Qwen3-8B", "sibling", ""),
        ("somebody/Llama-3.1-8B-Instruct", "meta-llama/Llama-3.1-8B", "name", ""),
        ("somebody/Qwen3-8B-bnb-4bit", "Qwen/Qwen3-8B", "name", "bnb-4bit"),
        ("somebody/Qwen3-8B-quantized.w4a16", "Qwen/Qwen3-8B", "name", "w4a16"),
    ],
)
def test_a_name_that_stands_nowhere_is_looked_at_by_rule(name, model, evidence, packing):
    entry, other = find(name)

    assert (entry.id, other.evidence, other.packing) == (model, evidence, packing)
    assert other.has_its_dtype is (evidence == "sibling")


@pytest.mark.parametrize(
    "name",
    [
        "Llama-3.1-8B",  # no name of the hub: a folder
        "./models/Llama-3.1-8B",
        "models/Llama-3.1-8B",
        "/data/meta-llama/Llama-3.1-8B",
        "somebody/Llama-3.1-9B",  # another size
        "lmsys/vicuna-33b-v1.5",
        "meta-llama/Llama-3.7-8B",  # another version
        "somebody/Llama-3.1-8B-finance",  # tuned from it, or so it says
        "somebody/Llama-3.1-8B-Instruct-DFlash",  # a draft model of five layers
        "onnx-community/Llama-3.1-8B",
        "somebody/bert",  # a family, and no shape
    ],
)
def test_a_name_is_no_models_by_rule_unless_owner_family_version_and_sizes_are(name):
    assert find(name) == (None, None)


@pytest.mark.parametrize(
    ("name", "likely"),
    [
        ("somebody/Llama-3.1-8B-finance", "meta-llama/Llama-3.1-8B"),
        ("/data/models/Qwen3-8B", "Qwen/Qwen3-8B"),
        ("Llama-3.1-8B", "meta-llama/Llama-3.1-8B"),
        ("somebody/Qwen2-VL-7B-Instruct-receipts", "Qwen/Qwen2-VL-7B-Instruct"),
        ("lmsys/vicuna-33b-v1.5", None),  # vicuna-7b was hinted at, and gave a quarter of it
        ("somebody/Llama-3.1-9B", None),
        ("somebody/Llama-3.1-8B-eagle3", None),
        ("somebody/Llama-3.1-8B-finance-lora", None),
        ("somebody/Llama-3.1-8B-Vision-x", None),
        ("somebody/Qwen2-7B-VL", None),
        ("zzz/entirely-else", None),
        ("somebody/Llama-3.1-8B-to-70B", None),
    ],
)
def test_a_hint_names_a_model_of_the_same_sizes_or_none(name, likely):
    assert models_like(name)[:1] == ((likely,) if likely else ())


def test_the_rule_finds_every_listed_name_without_its_line_or_finds_nothing():
    """Each id and each name that somebody looked at is left out once, and sought by the rest of its owner's names."""
    wrong, found = [], 0
    looked_at = [(entry.id, entry.id) for entry in ENTRIES]
    looked_at += [(o.name, o.model) for o in OTHERS if o.evidence != "name" and not o.packing]
    stems: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for name, model in looked_at:
        stems.setdefault((owner_of(name), line_key(name)[0]), []).append((name, model))
    for group in stems.values():
        for name, model in group:
            for _, other in group:
                counts = sorted((BY_ID[model].num_params, BY_ID[other].num_params))
                found += model != other or name != _
                if counts[1] > counts[0] * (1 + SAME):
                    wrong.append((name, model, other))

    assert wrong == []
    assert found > 1000


class Counting(io.FileIO):
    """A file that adds up what is read of it."""

    num_bytes = 0

    def readinto(self, buffer):
        size = super().readinto(buffer)
        Counting.num_bytes += size or 0
        return size

    def readall(self):
        text = super().readall()
        Counting.num_bytes += len(text)
        return text


@pytest.mark.parametrize(
    ("model", "most"),
    [
        ("gpt2", 120_000),
        ("unsloth/Meta-Llama-3.1-8B-Instruct-bnb-4bit", 120_000),
        ("somebody/Qwen3-8B", 120_000),
        ("a/b", 800_000),  # all names once, for one that is near it
    ],
)
def test_a_check_reads_a_small_part_of_the_registry(monkeypatch, model, most):
    """700 KB lie there; a lookup halves its way to a few lines."""
    plain_open, Counting.num_bytes = builtins.open, 0

    def counting_open(path, mode="r", buffering=-1, **options):
        if path not in (MODELS, NAMES):
            return plain_open(path, mode, buffering, **options)
        size = io.DEFAULT_BUFFER_SIZE if buffering < 0 else buffering
        reader = io.BufferedReader(Counting(path), size)
        return reader if "b" in mode else io.TextIOWrapper(reader, **options)

    monkeypatch.setattr(builtins, "open", counting_open)
    command = f"trl sft --model_name_or_path {model} --dataset_name x --max_length 512"
    report = check(command.split(), device="h100-sxm-80")

    assert (report.model is None) is (model == "a/b")
    assert 10_000 < Counting.num_bytes < most


def test_a_lookup_costs_less_than_a_few_milliseconds():
    """A few lines are parsed, not 5,000; measured as the best of five.

    A four-hundredth of the loop was taken when the bound was chosen.
    """
    best = least_seconds(lambda: find_model("llava-hf/llava-1.5-7b-hf"), 5)

    assert best < loop_seconds() / 50


def test_every_entry_says_where_its_sizes_were_read_and_how_far_they_were_checked():
    page = (Path(__file__).parents[2] / "docs" / "data.md").read_text()

    assert all(entry.source for entry in ENTRIES)
    assert all(f"`{entry.checked}`" in page for entry in ENTRIES)
