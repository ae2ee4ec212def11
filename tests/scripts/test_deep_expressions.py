"""Expressions that are too deep for Python's own printer stop nobody."""

from __future__ import annotations

import pytest
from launch_of_script import plan_of

SCRIPT = """\
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

prompt = {prompt}
model = AutoModelForCausalLM.from_pretrained("gpt2", use_cache=True)
arguments = TrainingArguments("out", per_device_train_batch_size=3, eval_strategy="epoch")
Trainer(model=model, args=arguments, train_dataset=rows, eval_dataset=others).train()
"""


@pytest.mark.parametrize("num_parts", [10, 400, 1500])
def test_a_text_of_many_parts_is_read_around(tmp_path, num_parts):
    prompt = " + ".join(['"part"'] * num_parts)

    plan = plan_of(tmp_path, "python train.py", {"train.py": SCRIPT.format(prompt=prompt)})

    assert (plan.model, plan.micro_batch_size) == ("gpt2", 3)
