"""A loop that casts parameters one by one decides what they take, as a cast of the whole model does."""

from __future__ import annotations

import pytest
from launch_of_script import opens, plan_of

SCRIPT = """\
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, Trainer, TrainingArguments

def cast(module, wanted):
    for q in module.parameters():
        q.data = q.data.to(wanted)

model = AutoModelForCausalLM.from_pretrained("gpt2", torch_dtype=torch.bfloat16{more})
{loop}
arguments = TrainingArguments("out", per_device_train_batch_size=1, bf16=True)
Trainer(model=model, args=arguments, train_dataset=rows).train()
"""
EACH = "for name, p in model.named_parameters():\n    "
MODULES = "for name, m in model.named_modules():\n    "
UP = "def up(m):\n    "
LORA = "model = get_peft_model(model, LoraConfig(r=8, target_modules=['c_attn']))\n"
PACKED = ", quantization_config=BitsAndBytesConfig(load_in_4bit=True)"
TO_FP32 = f"{EACH}p.data = p.data.to(torch.float32)"


def read(tmp_path, loop, more=""):
    return plan_of(tmp_path, "python train.py", {"train.py": SCRIPT.format(loop=loop, more=more)})


@pytest.mark.parametrize(
    "loop",
    [
        TO_FP32,
        f"{EACH}p.data = p.data.float()",
        f"{EACH}p.data = p.float()",
        f"{EACH}p.data = p.data.to(device='cuda', dtype=torch.float32)",
        f"{EACH}if p.requires_grad:\n        p.data = p.data.float()",
        f"{EACH}if p.requires_grad and p.dtype == torch.bfloat16:\n        p.data = p.data.float()",
        "cast(model, torch.float32)",
        f"{TO_FP32}\n{LORA}",
        f"{MODULES}m = m.to(torch.float32)",
        f"{MODULES}m.float()",
        "model.apply(lambda m: m.float())",
        f"{UP}m.to(torch.float32)\nmodel.apply(up)",
        f"{UP}for p in m.parameters():\n        p.data = p.data.float()\nmodel.apply(up)",
    ],
)
def test_what_is_cast_is_wide(loop, tmp_path):
    plan = read(tmp_path, loop)

    assert plan.load_dtype == "fp32" and "load_dtype" not in opens(plan)


@pytest.mark.parametrize(
    "loop",
    [
        f"{EACH}if p.ndim == 1:\n        p.data = p.data.to(torch.float32)",
        f"{EACH}if 'norm' in name:\n        p.data = p.data.float()",
        f"{LORA}{EACH}if p.requires_grad:\n        p.data = p.data.float()",
        f"{LORA}{EACH}if 'lora_' in name:\n        p.data = p.data.float()",
        f"{EACH}p.grad.data = p.grad.data.float()",
        f"{EACH}norms.append(p.data.float())",
        f"{EACH}p.data = p.data.to('cuda')",
        "pixels.data = pixels.to(device)",
        f"{MODULES}if 'norm' in name or 'bias' in name:\n        m = m.to(torch.float32)",
        f"{MODULES}if isinstance(m, LoraLayer):\n        m = m.to(torch.float32)",
        f"{MODULES}m.to(device)",
        f"{MODULES}if 'lm_head' in name:\n        m.to(torch.bfloat16)",
        "for m in heads:\n    m.float()",
        "model.apply(lambda m: m.to(device))",
        f"{UP}m.to(torch.float32)",
        f"{UP}if 'norm' in type(m).__name__.lower():\n        m.float()\nmodel.apply(up)",
    ],
)
def test_a_few_of_them_an_adapter_and_what_is_no_cast_leave_it_as_it_was(loop, tmp_path):
    plan = read(tmp_path, loop)

    assert plan.load_dtype == "bf16" and "load_dtype" not in opens(plan)


@pytest.mark.parametrize(
    "loop",
    [
        f"{EACH}if 'visual' in name:\n        p.data = p.data.float()",
        f"{EACH}p.data = p.data.to(read().dtype)",
        f"{EACH}if 'norm' in name or 'mlp' in name:\n        p.data = p.data.float()",
        f"{MODULES}if 'norm' in name or 'gate' in name:\n        m = m.to(torch.float32)",
        f"{MODULES}if 'norm' not in name:\n        m.to(torch.float32)",
        f"{EACH}if p.ndim > 1:\n        p.data = p.data.float()",
        f"{UP}if isinstance(m, torch.nn.Linear):\n        m.float()\nmodel.apply(up)",
        "model.apply(lambda m: m.float() if isinstance(m, torch.nn.Linear) else m)",
        f"if wide():\n    {TO_FP32.replace(chr(10), chr(10) + '    ')}",
    ],
)
def test_what_may_be_cast_leaves_it_open(loop, tmp_path):
    assert "load_dtype" in opens(read(tmp_path, loop))


def test_of_a_packed_base_what_is_not_packed_is_cast(tmp_path):
    plain = read(tmp_path, LORA, PACKED).base_quantization
    wide = f"{EACH}if p.dtype == torch.bfloat16:\n        p.data = p.data.to(torch.float32)\n{LORA}"
    cast = read(tmp_path, wide, PACKED).base_quantization

    assert plain is not None and cast is not None
    assert (plain.upcast_unquantized_to_fp32, cast.upcast_unquantized_to_fp32) == ("none", "all")


def test_a_base_that_is_not_packed_is_prepared_in_fp32(tmp_path):
    """PEFT's preparation casts whatever is in 16 bits: half of what such a base takes was not counted."""
    plan = read(tmp_path, f"model = prepare_model_for_kbit_training(model)\n{LORA}")

    assert plan.load_dtype == "fp32"
    assert read(tmp_path, LORA).load_dtype == "bf16"


def test_peft_prepares_what_is_not_packed_too():
    torch, peft = pytest.importorskip("torch"), pytest.importorskip("peft")
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(n_layer=1, n_embd=8, n_head=1, vocab_size=16, n_positions=8)
    model = transformers.GPT2LMHeadModel(config).to(torch.bfloat16)

    prepared = peft.prepare_model_for_kbit_training(model)
    assert {each.dtype for each in prepared.parameters()} == {torch.float32}
