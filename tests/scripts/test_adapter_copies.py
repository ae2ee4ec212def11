"""A second adapter beside the one that trains: as large as that, whoever makes it."""

from __future__ import annotations

import peft
import pytest
import transformers
from launch_of_script import opens, plan_of
from tiny_llama import TINY_LLAMA

from preflight.formulas.limits.bounds import AS_GRADIENTS
from preflight.unpriced_names import COPY_OF_ADAPTER

SCRIPT = """\
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

config = LoraConfig(r=16, target_modules="all-linear")
model = AutoModelForCausalLM.from_pretrained("Qwen/Qwen3-1.7B")
MODEL
TRAINER
"""
ADAPTED = "model = get_peft_model(model, config)"
COPIES = {
    "handed to DPO": (ADAPTED, "DPOTrainer(model, args=DPOConfig('out'))", True),
    "by a subclass": (ADAPTED, "class Own(DPOTrainer):\n    pass\n\n\nOwn(model, args=DPOConfig('out'))", True),
    "by its config": ("", "DPOTrainer(model, args=DPOConfig('out'), peft_config=config)", False),
    "beside a reference": (ADAPTED, "DPOTrainer(model, ref_model=other, args=DPOConfig('out'))", False),
    "no reference": (ADAPTED, "DPOTrainer(model, ref_model=None, args=DPOConfig('out'))", True),
    "supervised": (ADAPTED, "SFTTrainer(model, args=SFTConfig('out'))", False),
    "added": (f"{ADAPTED}\nmodel.add_adapter('old', config)", "SFTTrainer(model, args=SFTConfig('out'))", True),
    "the only one": ("model.add_adapter(config)", "SFTTrainer(model, args=SFTConfig('out'))", False),
}  # fmt: skip


@pytest.mark.parametrize(("model", "trainer", "is_copied"), COPIES.values(), ids=COPIES)
def test_a_copy_of_the_adapter_is_named(tmp_path, model, trainer, is_copied):
    text = SCRIPT.replace("MODEL", model).replace("TRAINER", f"{trainer}.train()".replace("pass.t", "pass\n.t"))  # fmt: skip
    plan = plan_of(tmp_path, "python train.py", {"train.py": text})

    assert (COPY_OF_ADAPTER in plan.script_facts.uncounted) is is_copied


def test_it_is_as_large_as_the_adapter(tmp_path):
    """What PEFT does for `add_adapter`, which TRL calls: by the same config, with what trains whole beside it."""
    config = transformers.LlamaConfig(**{k: v for k, v in TINY_LLAMA.items() if k != "model_type"})
    adapter = peft.LoraConfig(r=4, target_modules="all-linear", modules_to_save=["lm_head"])
    model = peft.get_peft_model(transformers.LlamaForCausalLM(config).bfloat16(), adapter)
    model.add_adapter("ref", adapter)
    sizes = {
        name: sum(p.nbytes for key, p in model.named_parameters() if f".{name}." in key)
        for name in ("default", "ref")
    }

    assert sizes["ref"] == sizes["default"] * AS_GRADIENTS[COPY_OF_ADAPTER] > 0


def test_of_two_configs_that_differ_no_part_is_said(tmp_path):
    """A merged adapter and the one behind it: the flag `--lora_r` said the rank of both."""
    text = """\
import argparse
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

parser = argparse.ArgumentParser()
parser.add_argument("--use_lora", action="store_true")
parser.add_argument("--lora_r", type=int, default=8)
args = parser.parse_args()
model = AutoModelForCausalLM.from_pretrained("Qwen/Qwen3-1.7B")
if args.use_lora:
    model = get_peft_model(model, LoraConfig(r=args.lora_r, target_modules=["q_proj"])).merge_and_unload()
    model = get_peft_model(model, LoraConfig(r=64, target_modules="all-linear"))
Trainer(model, TrainingArguments("out"), train_dataset=rows).train()
"""
    plan = plan_of(tmp_path, "python train.py --use_lora --lora_r 4", {"train.py": text})
    ranks = {way.rank for way in plan.origins["adapter"].may_be if way is not None}

    assert "adapter" in opens(plan) and min(ranks) < 64 <= max(ranks)
