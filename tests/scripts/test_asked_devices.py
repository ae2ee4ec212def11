"""A script that asks whether there is a GPU has one: what is judged is a launch on GPUs."""

from __future__ import annotations

import pytest
from launch_of_script import opens, plan_of

SCRIPT = """\
import torch
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

{before}
model = AutoModelForCausalLM.from_pretrained("huggyllama/llama-7b", torch_dtype={dtype})
arguments = TrainingArguments("out", per_device_train_batch_size={rows})
Trainer(model=model, args=arguments).train()
"""
DEVICE = 'device = "cuda" if torch.cuda.is_available() else "cpu"'
NAMED = """\
if torch.cuda.is_available():
    device = "cuda"
elif torch.backends.mps.is_available():
    device = "mps"
else:
    device = "cpu"
"""
APPLE = "rows = 1 if torch.backends.mps.is_available() else 8"
HELPER = """\
def device():
    if not torch.cuda.is_available():
        return torch.float32
    return torch.bfloat16
"""
DTYPE = 'torch.bfloat16 if device == "cuda" else torch.float32'
KNOWN = {
    "at once": ("", "torch.bfloat16 if torch.cuda.is_available() else torch.float32", "8"),
    "by a name": (DEVICE, DTYPE, "8"),
    "by branches": (NAMED, DTYPE, "8"),
    "by a table": (DEVICE, '{"cuda": torch.bfloat16, "cpu": torch.float32}[device]', "8"),
    "by a function": (HELPER, "device()", "8"),
    "no GPU of Apple's": (f"{DEVICE}\n{APPLE}", DTYPE, "rows"),
    "and more": (DEVICE, DTYPE, "8 if torch.cuda.is_available() and True else 1"),
}


def plan(folder, before, dtype, rows, env=None):
    text = SCRIPT.format(before=before, dtype=dtype, rows=rows)
    return plan_of(folder, "python train.py", {"train.py": text}, env)


@pytest.mark.parametrize("told", KNOWN.values(), ids=KNOWN)
def test_what_a_script_does_where_there_is_a_gpu_is_what_it_does(tmp_path, told):
    found = plan(tmp_path, *told)

    assert (found.load_dtype, found.micro_batch_size) == ("bf16", 8)
    assert not {"load_dtype", "micro_batch_size"} & opens(found)


@pytest.mark.parametrize("shown", ["", "-1"])
def test_a_launch_that_hides_its_gpus_may_have_none(tmp_path, shown):
    found = plan(tmp_path, DEVICE, DTYPE, "8", {"CUDA_VISIBLE_DEVICES": shown})

    assert "load_dtype" in opens(found)


@pytest.mark.parametrize(
    "asked", ["torch.cuda.is_bf16_supported()", "torch.cuda.get_device_capability()[0] >= 8"]
)
def test_what_a_gpu_can_do_stays_open(tmp_path, asked):
    found = plan(tmp_path, "", f"torch.bfloat16 if {asked} else torch.float32", "8")

    assert "load_dtype" in opens(found)
