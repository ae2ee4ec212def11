"""A config of packing that a script makes packs the model that is loaded with it, and no other."""

from __future__ import annotations

import pytest
from launch_of_script import opens, plan_of

SCRIPT = """\
import torch
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, Trainer, TrainingArguments

{before}
packing = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_compute_dtype=torch.bfloat16)
{after}
model = AutoModelForCausalLM.from_pretrained("Qwen/Qwen2.5-0.5B", {keywords}dtype=torch.bfloat16)
model = get_peft_model(model, LoraConfig(r=8, target_modules=["q_proj"]))
told = TrainingArguments(output_dir="o", per_device_train_batch_size=2, bf16=True)
Trainer(model=model, args=told, train_dataset=rows).train()
"""


@pytest.fixture
def packed(tmp_path):
    """Return whether the model of a script is packed; None where that is open."""

    def read(keywords="quantization_config=packing, ", before="", after=""):
        text = SCRIPT.format(keywords=keywords, before=before, after=after)
        plan = plan_of(tmp_path, "python train.py", {"train.py": text})
        return None if "base_quantization" in opens(plan) else plan.base_quantization is not None

    return read


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"before": "packing = None"},
        {"keywords": "quantization_config=packing if torch.cuda.is_available() else None, "},
        {"keywords": "**told, ", "after": "told = dict(quantization_config=packing)"},
    ],
)
def test_it_is_packed_where_it_is_loaded_with_one(packed, given):
    assert packed(**given) is True


@pytest.mark.parametrize(
    "given",
    [{"keywords": ""}, {"keywords": "quantization_config=None, "}, {"after": "packing = None"}],
    ids=["not given", "none", "none by then"],
)
def test_it_is_whole_where_it_is_loaded_without(packed, given):
    assert packed(**given) is False


@pytest.mark.parametrize(
    "given",
    [
        {"keywords": "quantization_config=packing if small() else None, "},
        {"after": "packing = None if small() else packing"},
        {"after": "if small():\n    packing = None"},
    ],
)
def test_it_is_open_where_only_running_tells(packed, given):
    assert packed(**given) is None
