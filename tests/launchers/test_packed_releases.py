"""The release of bitsandbytes of a launch whose base is packed: by pins and settings, and of no other launch."""

from __future__ import annotations

from pathlib import Path

import pytest

import preflight
from preflight.report import Report
from preflight.verdict import Answer

SCRIPT = """\
import torch
from peft import LoraConfig
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, Trainer, TrainingArguments
from peft import get_peft_model

model = AutoModelForCausalLM.from_pretrained("meta-llama/Llama-2-7b-hf", torch_dtype=torch.bfloat16{quantization})
model = get_peft_model(model, LoraConfig(target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"))
args = TrainingArguments("out", per_device_train_batch_size=4{arguments})
trainer = Trainer(model=model, args=args)
trainer.train()
"""
PACKED = ", quantization_config=BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_compute_dtype=torch.bfloat16)"
NOT_REENTRANT = (
    ', gradient_checkpointing=True, gradient_checkpointing_kwargs={"use_reentrant": False}'
)
REST = "transformers==4.38.2\ntorch==2.2.1\naccelerate==0.27.2\npeft==0.9.0\n"
TOKENS, LAYERS = 4 * 2048, 32
OF_LAYER = 2 * (4096 + 4096 + 4096 + 11008)
"""What the packed layers of one layer read of a token: two norms, attention, and the product of the MLP."""


def check(folder: Path, pins: str, script: str, **settings: object) -> Report:
    (folder / ".git").mkdir(exist_ok=True)
    (folder / "train.py").write_text(script)
    (folder / "requirements.txt").write_text(pins)
    elsewhere = {"VIRTUAL_ENV": "/env/of/the/cluster"}
    said = {"seq_len": 2048, **settings}
    return preflight.check(
        ["python", "train.py"], device="a100-sxm-80", settings=said, cwd=folder, env=elsewhere
    )


def live_bytes(report: Report) -> int:
    assert report.estimate is not None
    return report.estimate.allocated_peak_bytes


@pytest.mark.parametrize(("version", "keeps"), [("0.43.1", True), ("0.43.2", False)])
def test_a_pin_says_what_packed_layers_keep(version, keeps, tmp_path):
    """Under a checkpoint that is not reentrant they keep all that they read of all layers."""
    script = SCRIPT.format(quantization=PACKED, arguments=NOT_REENTRANT)
    report = check(tmp_path, f"{REST}bitsandbytes=={version}\n", script)
    newest = check(tmp_path, REST, script, **{"versions.bitsandbytes": "0.50.2"})

    assert report.plan.versions["bitsandbytes"] == version
    assert report.plan.origins["versions.bitsandbytes"].where == "requirements.txt:5"
    more = live_bytes(report) - live_bytes(newest)
    assert more == pytest.approx(keeps * TOKENS * LAYERS * OF_LAYER, rel=0.02)


def test_a_base_that_is_not_packed_has_no_release_of_it(tmp_path):
    script = SCRIPT.format(quantization="", arguments="")
    plan = check(tmp_path, f"{REST}bitsandbytes==0.41.0\n", script).plan

    assert "bitsandbytes" not in plan.versions


@pytest.mark.parametrize(
    ("bound", "answer"), [(">=0.41,<0.43", Answer.DOES_NOT_FIT), (">=0.41", Answer.FITS)]
)
def test_a_bound_is_enough_where_all_that_it_allows_keep_alike(bound, answer, tmp_path):
    arguments = NOT_REENTRANT.replace("=True", "=True, bf16=True")
    script = SCRIPT.format(quantization=PACKED, arguments=arguments).replace("size=4", "size=40")
    report = check(tmp_path, f"{REST}bitsandbytes{bound}\n", script)

    assert report.verdict.answer is answer
