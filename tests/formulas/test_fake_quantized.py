"""What torchao's fake-quantized linear layers keep, counted, is within what is bounded; a launch fits where the most of it does.

fake_quantized_linears.py makes the rows again, with the torchao that is on the path.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from recorded import recorded

import preflight
from preflight.formulas.fake_quantized import (
    BESIDE_COPIES,
    IN_PASSING,
    OF_FROZEN_WEIGHT,
    OF_ITS_INPUT,
)
from preflight.launchers.axolotl.left_out import FORMATS
from preflight.unpriced_names import FAKE_QUANTIZED, QUANTIZED_WIDELY

ROWS = recorded("fake_quantized.jsonl")
WIDER = {row["scheme"] for row in ROWS if "/" in row["scheme"]}
SIZES = {"bfloat16": 2, "float32": 4}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['torchao'][0]} {row['scheme']}")
def test_a_linear_layer_takes_no_more_than_is_bounded(row):
    given, weight = row["tokens"] * row["inputs"], row["inputs"] * row["outputs"]
    beside = BESIDE_COPIES[QUANTIZED_WIDELY if row["scheme"] in WIDER else FAKE_QUANTIZED]
    kept = (2 * SIZES[row["dtype"]] + beside) * (given + weight)
    passing = IN_PASSING
    if row["scheme"].endswith("adapted"):
        passing += 2 * (SIZES[row["dtype"]] - 2)
        kept = OF_ITS_INPUT * given + (SIZES[row["dtype"]] + OF_FROZEN_WEIGHT) * weight

    assert row["kept"] <= kept
    assert max(row["forward"], row["backward"]) <= kept + passing * max(given, weight)


def test_a_format_of_axolotls_is_known_where_its_layers_were_counted():
    spellings = {"none": None, "fp8": "float8_e4m3fn"}
    counted = {tuple(spellings.get(name, name) for name in each.split("/")) for each in WIDER}

    assert counted == FORMATS


def answer_of(folder: Path, *more: str) -> preflight.Report:
    words = "tune run --nproc_per_node 8 qat_distributed --config llama2/7B_qat_full"
    return preflight.check([*words.split(), *more], device="h100-sxm-80", cwd=folder)


def test_a_launch_fits_where_the_most_of_it_does(tmp_path):
    report = answer_of(tmp_path)

    assert report.verdict.answer.value == "fits"


def test_a_launch_that_fits_without_the_copies_alone_is_unknown(tmp_path):
    whole = answer_of(
        tmp_path, "enable_activation_checkpointing=False", "tokenizer.max_seq_len=4096"
    )

    assert whole.verdict.answer.value == "unknown"
    assert whole.verdict.unpriced == ("fake-quantized copies",)


@pytest.mark.parametrize("length, answer", [(2048, "fits"), (4096, "unknown")])
def test_copies_beside_an_adapter_are_of_a_frozen_base(length, answer, tmp_path):
    words = (
        "tune run --nproc_per_node 2 qat_lora_finetune_distributed --config llama3_1/8B_qat_lora"
    )
    more = (f"tokenizer.max_seq_len={length}", "batch_size=2")
    report = preflight.check([*words.split(), *more], device="h100-sxm-80", cwd=tmp_path)

    assert report.verdict.answer.value == answer
    assert answer == "fits" or report.verdict.unpriced == ("fake-quantized copies",)


def test_copies_of_another_quantizer_are_not_bounded(tmp_path):
    other = answer_of(tmp_path, "quantizer._component_=mine.Quantizer")

    assert other.verdict.unpriced == ("copies that mine.Quantizer makes",)
