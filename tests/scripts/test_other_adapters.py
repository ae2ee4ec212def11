"""Scripts whose adapter is no LoRA: of a kind that is known it is the plan's, and any other is named."""

from __future__ import annotations

import pytest
from launch_of_script import plan_of

from preflight.unpriced_names import NOT_LORA

SCRIPT = """\
import torch
import peft
from peft import get_peft_model
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

def main(size=64):
    model = AutoModelForCausalLM.from_pretrained("meta-llama/Llama-2-7b-hf", torch_dtype=torch.bfloat16)
    model = get_peft_model(model, {config})
    training = TrainingArguments(output_dir="out", per_device_train_batch_size=2, bf16=True)
    Trainer(model=model, args=training).train()

main()
"""
LAUNCH = "torchrun --nproc_per_node 8 train.py"


def read(tmp_path, config):
    return plan_of(tmp_path, LAUNCH, {"train.py": SCRIPT.format(config=config)})


@pytest.mark.parametrize(
    ("config", "kind", "size", "targets"),
    [
        ("peft.OFTConfig(oft_block_size=size, target_modules=['q_proj', 'v_proj'])", "oft", 64, ("q_proj", "v_proj")),
        ("peft.OFTConfig(task_type='CAUSAL_LM', target_modules='all-linear')", "oft", 32, "all-linear"),
        ("peft.AdaLoraConfig(init_r=16, tinit=200, total_step=900, lora_dropout=0.1)", "adalora", 16, None),
        ("peft.IA3Config(feedforward_modules=['down_proj'], target_modules=['k_proj', 'down_proj'])", "ia3", 8, ("k_proj", "down_proj")),
        ("peft.ShiraConfig(r=4, mask_type='random', target_modules=['q_proj', 'v_proj'])", "shira", 4, ("q_proj", "v_proj")),
    ],
)  # fmt: skip
def test_an_adapter_of_a_known_kind_is_the_plans(tmp_path, config, kind, size, targets):
    plan = read(tmp_path, config)

    assert plan.adapter is not None
    assert (plan.adapter.kind, plan.adapter.rank, plan.adapter.targets) == (kind, size, targets)
    assert NOT_LORA not in {notice.unpriced for notice in plan.notices}


@pytest.mark.parametrize(
    "config",
    [
        "peft.OFTConfig(oft_block_size=size, coft=True)",
        "peft.ShiraConfig(r=4, mask_type=chosen())",
        "peft.MissConfig(init_weights='bat')",
        "peft.IA3Config(feedforward_modules=['o_proj'], target_modules=['o_proj'])",
        "peft.OFTConfig(**chosen())",
        "peft.OFTConfig() if chosen() else peft.IA3Config()",
        "peft.PromptTuningConfig(num_virtual_tokens=20)",
    ],
)
def test_one_that_only_running_tells_is_named(tmp_path, config):
    assert NOT_LORA in {notice.unpriced for notice in read(tmp_path, config).notices}
