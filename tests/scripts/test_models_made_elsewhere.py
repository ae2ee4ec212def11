"""What a package makes that is not here, or a name in a config, is named: `--set model=` says nothing of the rest of it."""

from __future__ import annotations

import pytest
from launch_of_script import plan_of

LAUNCH = "torchrun --nproc_per_node 8 train.py"
STEP = """
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
for batch in batches:
    loss = model(**batch).loss
    loss.backward()
    optimizer.step()
"""
LOADED = (
    """\
import torch
{imports}
from transformers import AutoModelForCausalLM

model = {model}
"""
    + STEP
)
BY_NAME = "a model that the script makes by a name in its settings"
TRAINED = """\
{imports}
from transformers import TrainerCallback


class Mine({base}):
    def run_step(self):
        self.model(next(self.rows)).backward()


trainer = Mine(config)
trainer.train()
"""


def named(tmp_path, text: str, **files: str) -> set[str]:
    plan = plan_of(tmp_path, LAUNCH, {"train.py": text, **{f"{k}.py": v for k, v in files.items()}})
    return {notice.unpriced for notice in plan.notices if notice.unpriced}


@pytest.mark.parametrize(
    ("imports", "model", "name"),
    [
        ("import hydra", "hydra.utils.instantiate(config.model)", BY_NAME),
        ("import importlib", "getattr(importlib.import_module(config.module), config.name)()", BY_NAME),
        ("import timm", "timm.create_model(config.model)", "what create_model makes of the model"),
        ("from open_clip import create_model", "create_model(config.model).cuda()", "what create_model makes of the model"),
        ("import hydra", "AutoModelForCausalLM.from_pretrained(config.model)", ""),
        ("", "AutoModelForCausalLM.from_pretrained('gpt2').cuda()", ""),
        ("from build import create_model", "create_model()", ""),
        ("from build import Headed", "Headed.from_pretrained('gpt2')", ""),
        ("import build", "build.Headed.from_pretrained('gpt2')", ""),
    ],
)  # fmt: skip
def test_a_model_that_nobody_read_is_named(imports, model, name, tmp_path):
    build = "from transformers import AutoModelForCausalLM, GPT2LMHeadModel\nclass Headed(GPT2LMHeadModel):\n    pass\ndef create_model():\n    return AutoModelForCausalLM.from_pretrained('gpt2')\n"
    text = LOADED.format(imports=imports, model=model)
    if not model.startswith("Auto"):
        text = text.replace("from transformers import AutoModelForCausalLM\n", "")
    found = named(tmp_path, text, build=build)

    makes = {each for each in found if "makes" in each}
    assert name in makes if name else not makes


@pytest.mark.parametrize(
    ("imports", "base", "name"),
    [
        ("from detectron2.engine.train_loop import TrainerBase", "TrainerBase", "what the trainer TrainerBase computes"),
        ("from deep_training.trainer.hf.trainer import TrainerHF", "TrainerHF", "what the trainer TrainerHF computes"),
        ("from composer import TrainerCallbackBase", "TrainerCallbackBase", ""),
        ("", "TrainerCallback", ""),
    ],
)  # fmt: skip
def test_a_trainer_of_a_package_that_is_not_here_is_named(imports, base, name, tmp_path):
    found = named(tmp_path, TRAINED.format(imports=imports, base=base))

    assert {each for each in found if "the trainer" in each} == ({name} if name else set())


@pytest.mark.parametrize(
    ("line", "is_named"),
    [
        ("model.visual_encoder = encoder", True),
        ("features = model.vision_encoder(batch.pop('x'))", True),
        ("model.Qformer = encoder", True),
        ("model.text_encoder = encoder", False),
    ],
)
def test_an_encoder_of_images_is_named_by_its_usual_names(line, is_named, tmp_path):
    text = LOADED.format(imports="", model="AutoModelForCausalLM.from_pretrained('gpt2')")
    found = named(tmp_path, text.replace("\noptimizer", f"\n{line}\noptimizer", 1))

    assert ("images or audio beside the text" in found) == is_named
