"""What a script or a command says of a low-rank optimizer, as `low_rank` of the plan."""

from __future__ import annotations

import pytest

import preflight
from preflight.launch import LowRank

SCRIPT = """
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments
from elsewhere import names_in, rows
model = AutoModelForCausalLM.from_pretrained("Qwen/Qwen3-8B", dtype="bfloat16")
args = TrainingArguments("out", per_device_train_batch_size=1, bf16=True, {})
Trainer(model=model, args=args, train_dataset=rows).train()
"""
PATTERNS = r'[r".*.attn.*", r".*.mlp.*"]'


def checked(folder, arguments):
    (folder / "train.py").write_text(SCRIPT.format(arguments))
    words = ["python", "train.py"]
    return preflight.check(words, device="h200-sxm-141", cwd=folder, settings={"seq_len": 512})


@pytest.mark.parametrize(
    ("arguments", "low_rank"),
    [
        (f'optim="galore_adamw", optim_target_modules={PATTERNS}', LowRank(128, targets=(".*.attn.*", ".*.mlp.*"))),
        (
            f'optim="galore_adafactor", optim_args="rank=64, proj_type=full, scale=0.1", optim_target_modules={PATTERNS}',
            LowRank(64, "full", targets=(".*.attn.*", ".*.mlp.*")),
        ),
        ('optim="apollo_adamw", optim_target_modules="all-linear"', LowRank(128, is_random=True)),
        (
            'optim="apollo_adamw", optim_target_modules="all_linear", optim_args="proj=svd,rank=1"',
            LowRank(1, targets="all_linear"),
        ),
    ],
)  # fmt: skip
def test_a_script_says_what_is_projected(tmp_path, arguments, low_rank):
    report = checked(tmp_path, arguments)

    assert report.plan.low_rank == low_rank
    assert "PF434" not in {found.id for found in report.findings}
    assert report.verdict.unpriced == ()


@pytest.mark.parametrize(
    "arguments",
    [
        'optim="galore_adamw", optim_target_modules=names_in(model)',
        'optim="galore_adamw", optim_target_modules=["mlp"], optim_args="rank"',
        'optim="galore_adamw", optim_target_modules=["("]',
    ],
)
def test_what_cannot_be_read_is_no_error_and_no_number(tmp_path, arguments):
    report = checked(tmp_path, arguments)

    assert report.plan.low_rank is None
    assert "PF434" not in {found.id for found in report.findings}
    assert "the states of galore_adamw" in {each.unpriced for each in report.plan.notices}


def test_modules_that_nobody_names_are_an_error(tmp_path):
    found = checked(tmp_path, 'optim="galore_adamw_layerwise"').findings

    assert {each.severity for each in found if each.id == "PF434"} == {"error"}


def test_an_optimizer_that_takes_its_place_projects_nothing(tmp_path):
    report = checked(tmp_path, f'optim="galore_adamw", optim_target_modules={PATTERNS}')
    other = report.plan.with_edits({"optimizer": "adamw_torch"})
    (states,) = (t for t in preflight.estimate(other).terms if t.name == "optimizer states")
    params = 8_190_735_360

    assert states.num_bytes == 2 * 2 * params
