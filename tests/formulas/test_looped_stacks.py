"""Experts that are indexed one by one take no more than is bounded, in steps of two older releases; looped_stacks.py makes the rows."""

from __future__ import annotations

import pytest
from looped_stacks import CASES, SHAPE
from recorded import recorded

import preflight
from preflight.formulas.layers.looped_stacks import looped_at_most
from preflight.launch import LaunchPlan
from preflight.memory import Moment
from preflight.models import describe

ROWS = recorded("looped_stacks.jsonl")
NEWER = {
    (row["case"], row["dtype"], row["is_checkpointed"], row["tokens"]): row
    for row in ROWS
    if row["transformers"] == "5.24.0"
}
PARTS = {
    "forward": {Moment.FORWARD, Moment.LOSS_FORWARD},
    "backward": {*Moment} - {Moment.LOAD, Moment.PREPARE, Moment.FORWARD, Moment.LOSS_FORWARD},
}


@pytest.mark.parametrize(
    "row", [row for row in ROWS if row["transformers"] != "5.24.0"], ids=lambda row: f"{row['transformers']}, {row['case']}, {row['dtype']}, {row['is_checkpointed']}, {row['tokens']}"
)  # fmt: skip
def test_an_older_release_takes_no_more_than_is_bounded(row):
    config = {**SHAPE, **CASES[row["case"]], "model_type": "gpt_oss"}
    is_wide = row["dtype"] == "float32"
    plan = LaunchPlan(
        micro_batch_size=1,
        seq_len=row["tokens"],
        load_dtype="fp32" if is_wide else "bf16",
        mixed_precision="bf16" if is_wide else "no",
        activation_checkpointing="full" if row["is_checkpointed"] else "none",
    )
    terms = looped_at_most(plan, describe(config, "small", "here"))
    newer = NEWER[row["case"], row["dtype"], row["is_checkpointed"], row["tokens"]]
    more = {
        part: max(sum(t.num_bytes for t in terms if m in t.moments) for m in moments)
        for part, moments in PARTS.items()
    }

    assert row["forward"] <= newer["forward"] + more["forward"]
    assert row["backward"] <= newer["backward"] + more["backward"]
    assert more["backward"] <= 3 * (row["backward"] - newer["backward"])


@pytest.mark.libraries
def test_the_rows_of_this_release_are_what_it_takes():
    from looped_stacks import peaks

    row = NEWER["many experts", "bfloat16", True, 256]
    found = peaks(CASES["many experts"], "bfloat16", True, 256)

    assert found["backward"] == pytest.approx(row["backward"], rel=0.02)


SCRIPT = """\
from transformers import AutoModelForCausalLM, HfArgumentParser, Trainer, TrainingArguments
args, = HfArgumentParser(TrainingArguments).parse_args_into_dataclasses()
model = AutoModelForCausalLM.from_pretrained("openai/gpt-oss-20b", torch_dtype="bfloat16")
Trainer(model=model, args=args, train_dataset=rows).train()
"""


@pytest.mark.parametrize(
    ("gib", "answer"), [(200, "fits"), (165, "tight"), (158, "unknown"), (150, "does_not_fit")]
)
def test_a_launch_fits_where_the_most_of_it_does(tmp_path, gib, answer):
    (tmp_path / "t.py").write_text(SCRIPT)
    report = preflight.check(
        [
            "python",
            "t.py",
            "--output_dir",
            "out",
            "--per_device_train_batch_size",
            "1",
            "--gradient_checkpointing",
        ],
        device=f"big:{gib}",
        cwd=str(tmp_path),
        settings={"seq_len": 1024, "world_size": 1, "versions.transformers": "4.57.6"},
    )

    assert report.verdict is not None and report.verdict.answer.value == answer
