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
        LOAD + "\nfrom trl import create_reference_model\nfixed = create_reference_model(model)",
        LOAD + '\nimport timm\nseen = timm.create_model("vit_large_patch16_224")',
        LOAD
        + '\nimport open_clip\nseen, _, cut = open_clip.create_model_and_transforms("ViT-H-14")',
        LOAD + '\nfixed = type(model).from_pretrained("gpt2-xl")',
        LOAD + '\nkind = AutoModelForCausalLM\nfixed = kind.from_pretrained("gpt2-xl")',
        LOAD + "\nfixed = AutoModelForCausalLM.from_config(model.config)",
        LOAD + '\nscorer = build_scoring_model().to("cuda")',
        LOAD + '\nscorer = torch.load("scorer.pt").cuda()',
        LOAD + "\nclass Big(torch.nn.Module):\n    pass\nbig = Big().to(device)",
        LOAD + f"\ndef load(name):\n    return {LOAD.partition(' = ')[2]}\nfixed = load('gpt2-xl')",
        f"def load(name):\n    return {LOAD.partition(' = ')[2]}\nmodel = load('gpt2')\nfixed = load('b')",
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
        (LOAD + '\nrows = collate(tokenizer("text")).to("cuda")', ""),
        (LOAD + "\nmodel = model.to(device)\nweights = torch.load('optimizer.pt')", ""),
        (f"def load(name):\n    return {LOAD.partition(' = ')[2]}\nmodel = load('gpt2')", ""),
        (LOAD + "\nscheduler = DDPMScheduler.from_config(read())", ""),
        (LOAD + '\nif False:\n    teacher = AutoModelForCausalLM.from_pretrained("x")', ""),
    ],
)
def test_one_model_in_several_ways_is_one(tmp_path, load, after):
    assert beside(tmp_path, load, after) is None
