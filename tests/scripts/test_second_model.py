"""A model that a script loads beside the one that it trains is not priced, and is named."""

from __future__ import annotations

import pytest
from launch_of_script import plan_of

from preflight.scripts.second_model import SECOND_MODEL

SCRIPT = """\
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, Trainer, TrainingArguments, pipeline

tokenizer = AutoTokenizer.from_pretrained("gpt2")
generation = GenerationConfig.from_pretrained("gpt2")
{load}
args = TrainingArguments(output_dir="o", per_device_train_batch_size=1)
trainer = Trainer(model=model, args=args, train_dataset=rows)
trainer.train()
{after}
"""
LOAD = 'model = AutoModelForCausalLM.from_pretrained("gpt2")'


def beside(folder, load=LOAD, after=""):
    files = {"train.py": SCRIPT.format(load=load, after=after)}
    plan = plan_of(folder, "python train.py", files)
    return plan.script_facts.uncounted.get(SECOND_MODEL)


@pytest.mark.parametrize(
    "load",
    [
        LOAD + '\nteacher = AutoModelForCausalLM.from_pretrained("gpt2-xl")',
        LOAD + '\nfixed = AutoModelForCausalLM.from_pretrained("gpt2-xl").eval()',
        LOAD + '\nif ready():\n    judge = AutoModelForCausalLM.from_pretrained("gpt2-xl")',
        LOAD + '\nclip = CLIPModel.from_pretrained("openai/clip")',
        LOAD + '\nself.vae = AutoencoderKL.from_pretrained("vae")',
        LOAD + '\nscore = pipeline("text-classification", model="some/reward")',
    ],
)
def test_a_model_that_does_not_train_is_found(tmp_path, load):
    assert beside(tmp_path, load) is not None


@pytest.mark.parametrize(
    ("load", "after"),
    [
        (LOAD, ""),
        (f"if ready():\n    {LOAD}\nelse:\n    {LOAD}", ""),
        (LOAD + '\nmodel = PeftModel.from_pretrained(model, "adapter")', ""),
        (LOAD, 'pipe = pipeline("text-generation", model=model)'),
        (LOAD, 'del model, trainer\nbase = AutoModelForCausalLM.from_pretrained("gpt2")'),
        (LOAD + '\nif False:\n    teacher = AutoModelForCausalLM.from_pretrained("x")', ""),
    ],
)
def test_one_model_in_several_ways_is_one(tmp_path, load, after):
    assert beside(tmp_path, load, after) is None
