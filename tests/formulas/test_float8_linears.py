"""What torchao's float8 linear layers keep and make in passing is within what is bounded; a launch fits where the most of it does.

float8_linears.py makes the rows again, with the torchao that is on the path.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from recorded import recorded

import preflight
from preflight.formulas.layers.float8_linears import Matrix, float8_at_most

ROWS = recorded("float8_linears.jsonl")
CONFIG = """distributed_type: MULTI_GPU
num_machines: 1
num_processes: 8
mixed_precision: fp8
fp8_config:
  backend: {}
"""
SCRIPT = """from transformers import AutoModelForCausalLM, HfArgumentParser
from trl import SFTConfig, SFTTrainer
(args,) = HfArgumentParser(SFTConfig).parse_args_into_dataclasses()
model = AutoModelForCausalLM.from_pretrained("Qwen/Qwen2.5-1.5B", dtype="bfloat16")
SFTTrainer(model=model, args=args, train_dataset=None).train()
"""


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['torchao'][0]} {row['recipe']}")
def test_a_linear_layer_takes_no_more_than_is_bounded(row):
    tokens, inputs, outputs = row["tokens"], row["inputs"], row["outputs"]
    matrix, plain = Matrix(tokens * inputs, tokens * outputs, inputs * outputs), row["plain"]
    kept = matrix.inputs * (1 if row["trains"] else 3) + matrix.weight

    assert row["kept"] - plain["kept"] <= kept
    for moment in ("forward", "backward"):
        assert row[moment] - plain[moment] <= kept + matrix.in_passing


def test_from_013_on_a_layer_that_trains_keeps_what_torchs_own_does():
    rows = [row for row in ROWS if row["torchao"][-1] == "0.18.0" and row["trains"]]

    assert rows
    assert all(row["kept"] == row["plain"]["kept"] for row in rows)


def answer_of(folder: Path, backend: str, length: int, *more: str) -> preflight.Report:
    (folder / "accelerate.yaml").write_text(CONFIG.format(backend))
    (folder / "train.py").write_text(SCRIPT)
    words = "accelerate launch --config_file accelerate.yaml train.py --output_dir out"
    words += f" --per_device_train_batch_size 1 --bf16 false --max_length {length}"
    return preflight.check([*words.split(), *more], device="h100-sxm-80", cwd=folder)


def test_a_launch_fits_where_the_most_of_it_does(tmp_path):
    report = answer_of(tmp_path, "AO", 1024)

    assert report.verdict.answer.value == "fits"


def test_a_launch_that_fits_in_16_bits_alone_is_unknown(tmp_path):
    kept = ["--gradient_checkpointing", "false"]
    whole = answer_of(tmp_path, "AO", 20000, *kept)

    assert whole.verdict.answer.value == "unknown"
    assert whole.verdict.unpriced == ("float8 linear layers",)


def test_transformer_engine_is_not_bounded(tmp_path):
    other = answer_of(tmp_path, "TE", 1024)

    assert other.verdict.unpriced == ("fp8 matrices",)


PUBLISHED = [
    ("selective_op", 8192, 47.77),
    ("selective_op", 8192, 47.79),
    ("none", 4096, 46.64),
    ("selective_every_2", 4096, 37.38),
    ("full", 4096, 28.03),
]
"""Checkpointing, length, GiB reserved of Llama 3 8B on eight H100 under torchtitan, compiled, with float8 by tensor or by row
(pytorch/ao 36027d82: docs/source/workflows/training.md with torchao 0.10, and torchao/prototype/float8nocompile/README.md
of January 2025, whose releases are not said)."""


@pytest.mark.parametrize(("checkpointing", "length", "measured"), PUBLISHED)
def test_compiled_runs_that_were_published_lie_between_16_bits_and_the_bound(
    checkpointing, length, measured
):
    plan = preflight.LaunchPlan(
        model="meta-llama/Llama-3.1-8B", trainer="torchtitan", engine="fsdp2", world_size=8, shard_degree=8,
        load_dtype="fp32", master_dtype="fp32", mixed_precision="bf16", optimizer="adamw_torch_fused",
        micro_batch_size=1, seq_len=length, activation_checkpointing=checkpointing, torch_compile=True,
        expandable_segments=True, versions={"torch": "2.7.0", "torchtitan": "0.1.0"},
    )  # fmt: skip
    report = preflight.check(plan, device="h100-sxm-80")
    in_16_bits = report.estimate.reserved_peak_bytes / 2**30
    more = sum(t.num_bytes for t in float8_at_most(plan, report.model, False)) / 2**30

    assert 0.98 * in_16_bits <= measured <= in_16_bits + more
