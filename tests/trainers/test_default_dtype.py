"""A model that nobody gives a dtype, by release, plain and packed: as from_pretrained of the installed release does it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))
from launch_of_script import plan_of

SCRIPT = """\
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, Trainer, TrainingArguments

model = AutoModelForCausalLM.from_pretrained("meta-llama/Llama-2-7b-hf"{load})
model = get_peft_model(model, LoraConfig(r=8, target_modules=["q_proj"]))
args = TrainingArguments(output_dir="o", per_device_train_batch_size=1)
Trainer(model=model, args=args, train_dataset=rows).train()
"""
IN_4_BITS = ", quantization_config=BitsAndBytesConfig(load_in_4bit=True)"


@pytest.mark.parametrize(
    ("version", "load", "dtype"),
    [
        ("4.40.0", "", "fp32"),
        ("4.40.0", IN_4_BITS, "fp16"),
        ("4.40.0", ", load_in_8bit=True", "fp16"),
        ("4.57.0", ", load_in_4bit=True", "fp16"),
        ("4.57.0", ", load_in_4bit=True, torch_dtype=torch.bfloat16", "bf16"),
        ("5.0.0", "", "auto"),
        ("5.0.0", IN_4_BITS, "auto"),
    ],
)
def test_by_release_and_packing(tmp_path, version, load, dtype):
    files = {"train.py": SCRIPT.format(load=load), "requirements.txt": f"transformers=={version}\n"}
    plan = plan_of(tmp_path, "torchrun train.py", files)
    assert plan.load_dtype == dtype
    if "load_in_4bit" in load and dtype != "bf16":
        assert plan.base_quantization.compute_dtype == "fp32"


def test_the_installed_transformers_does_not_ask_for_16_bits():
    from transformers.quantizers.quantizer_bnb_4bit import Bnb4BitHfQuantizer

    update = getattr(Bnb4BitHfQuantizer, "update_dtype", None)
    assert update is None or "float16" not in update.__code__.co_names
