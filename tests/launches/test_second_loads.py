"""Models that a script loads beside the one that it trains: how they are kept says nothing of that one."""

from __future__ import annotations

import pytest

import preflight

SCRIPT = """\
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, BitsAndBytesConfig
from trl import DPOConfig, DPOTrainer
model = AutoModelForCausalLM.from_pretrained("Qwen/Qwen2.5-7B", torch_dtype=torch.bfloat16)
ref = AutoModelForCausalLM.from_pretrained("Qwen/Qwen2.5-7B"{options})
args = DPOConfig("out", per_device_train_batch_size=2, gradient_checkpointing=True, bf16=True, max_length=2048)
DPOTrainer(model, ref_model=ref, args=args, train_dataset=rows).train()
"""
MADE = "a reference model that the script makes"


@pytest.mark.parametrize(
    ("options", "unpriced"),
    [
        (", torch_dtype=torch.bfloat16", ()),
        (", torch_dtype=torch.float32", (MADE,)),
        (", quantization_config=BitsAndBytesConfig(load_in_4bit=True)", (MADE,)),
    ],
)
def test_a_reference_that_is_kept_in_another_way_is_named_and_packs_no_policy(
    tmp_path, options, unpriced
):
    """A reference in 4 bits made the policy one: 52 GiB were said of 109."""
    (tmp_path / "t.py").write_text(SCRIPT.format(options=options))
    launch = ["accelerate", "launch", "--num_processes", "4", "t.py"]
    report = preflight.check(launch, device="big:400", cwd=str(tmp_path))

    assert report.verdict is not None
    assert report.verdict.unpriced == unpriced
    assert report.plan.base_quantization is None
    assert report.plan.load_dtype == "bf16"


def test_the_import_of_a_class_that_scores_is_no_reward_model(tmp_path):
    (tmp_path / "t.py").write_text(
        "from transformers import AutoModelForSequenceClassification\n"
        "from trl import GRPOConfig, GRPOTrainer\n"
        "def short(completions, **kwargs):\n    return [-len(each) for each in completions]\n"
        "args = GRPOConfig('out', per_device_train_batch_size=8, bf16=True, max_completion_length=64)\n"
        "GRPOTrainer(model='Qwen/Qwen2.5-1.5B', reward_funcs=short, args=args, train_dataset=rows).train()\n"
    )
    launch = ["accelerate", "launch", "--num_processes", "4", "t.py"]
    report = preflight.check(launch, device="big:400", cwd=str(tmp_path))

    assert report.verdict is not None
    assert "a reward model that the script makes" not in report.verdict.unpriced
