"""What a script's own statements freeze of a model that sees is what they freeze when they run."""

from __future__ import annotations

import pytest
import torch
from launch_of_script import plan_of
from transformers import (
    LlavaConfig,
    LlavaForConditionalGeneration,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
)

TEXT = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2,
    "num_key_value_heads": 2, "vocab_size": 64,
}  # fmt: skip
LLAVA = LlavaConfig(
    text_config={**TEXT, "model_type": "llama"},
    vision_config={
        "model_type": "clip_vision_model", "hidden_size": 32, "intermediate_size": 64,
        "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 28, "patch_size": 14,
    },
)  # fmt: skip
QWEN = Qwen2VLConfig(
    text_config={**TEXT, "rope_scaling": {"type": "mrope", "mrope_section": [2, 3, 3]}},
    vision_config={"depth": 1, "embed_dim": 32, "num_heads": 2, "hidden_size": 32},
)
MODELS = {
    "llava-hf/llava-1.5-7b-hf": (LlavaForConditionalGeneration, LLAVA),
    "Qwen/Qwen2-VL-2B-Instruct": (Qwen2VLForConditionalGeneration, QWEN),
}
LLAVA_NAME, QWEN_NAME = MODELS
LOOP = "for p in {}.parameters():\n    p.requires_grad = False\n"
STATEMENTS = {
    "a tower, parameter by parameter": (LLAVA_NAME, LOOP.format("model.model.vision_tower")),
    "a tower and its projector": (
        LLAVA_NAME,
        LOOP.format("model.model.vision_tower") + LOOP.format("model.model.multi_modal_projector"),
    ),
    "all but a projector": (
        LLAVA_NAME,
        "model.requires_grad_(False)\nmodel.model.multi_modal_projector.requires_grad_(True)\n",
    ),
    "a projector, and then not": (
        LLAVA_NAME,
        LOOP.format("model.model.multi_modal_projector")
        + "model.model.multi_modal_projector.requires_grad_()\n"
        + "model.model.vision_tower.requires_grad_(False)\n",
    ),
    "by a word of their names": (
        LLAVA_NAME,
        "for n, p in model.named_parameters():\n    if 'vision_tower' in n:\n"
        "        p.requires_grad_(False)\n",
    ),
    "all that Qwen sees with": (QWEN_NAME, "model.model.visual.requires_grad_(False)\n"),
    "that, by a word": (
        QWEN_NAME,
        "for n, p in model.named_parameters():\n    if 'visual' in n:\n"
        "        p.requires_grad = False\n",
    ),
    "its merger alone": (QWEN_NAME, LOOP.format("model.model.visual.merger")),
}
NOT_READ = {
    "a language model, whose head may be in it": LOOP.format("model.model.language_model"),
    "another model": "ref_model = make()\nref_model.requires_grad_(False)\n",
    "a part of another model": "teacher_model = make()\nteacher_model.visual.requires_grad_(False)\n",
    "whatever a helper is given": (
        "def freeze(model):\n    model.visual.requires_grad_(False)\nfreeze(make())\n"
    ),
    "a model of an object's": (
        "class Teacher:\n    def __init__(self):\n        self.model = make()\n"
        "        self.model.requires_grad_(False)\nteacher = Teacher()\n"
    ),
    "all of it, and so something beside it trains": "model.requires_grad_(False)\n",
    "a model without its head": "model.model.requires_grad_(False)\n",
    "some layers": LOOP.format("model.model.language_model.layers[:4]"),
    "by a test that is not a word": (
        "for n, p in model.named_parameters():\n    if 'visual' in n or n.endswith('bias'):\n"
        "        p.requires_grad = False\n"
    ),
    "if a condition holds that nobody knows": (
        "import os\nif os.path.exists('x'):\n    model.model.visual.requires_grad_(False)\n"
    ),
    "a part, and then something else": (
        "model.model.visual.requires_grad_(False)\nmodel.lm_head.weight.requires_grad = False\n"
    ),
    "something that trains again": (
        "model.requires_grad_(False)\nmodel.model.language_model.layers[-1].requires_grad_(True)\n"
    ),
}
SCRIPT = """\
import torch
from transformers import {cls}, Trainer, TrainingArguments
model = {cls}.from_pretrained("{name}", torch_dtype=torch.bfloat16)
{statements}
args = TrainingArguments(output_dir="out", bf16=True, per_device_train_batch_size=1)
Trainer(model=model, args=args, train_dataset=rows).train()
"""
FROZEN = "frozen parameters"


def plan_with(tmp_path, name, statements):
    text = SCRIPT.format(cls=MODELS[name][0].__name__, name=name, statements=statements)
    return plan_of(tmp_path, "python train.py", {"train.py": text})


def part_of(parameter: str) -> str:
    if "multi_modal_projector" in parameter or ".merger." in parameter:
        return "projector"
    return "tower" if "vision_tower" in parameter or "visual" in parameter else "language_model"


@pytest.mark.parametrize("case", STATEMENTS)
def test_parts_are_frozen_as_they_are_when_it_runs(case, tmp_path):
    name, statements = STATEMENTS[case]
    cls, config = MODELS[name]
    with torch.device("meta"):
        model = cls(config)
    exec(statements, {"model": model})
    trains = {part_of(n) for n, p in model.named_parameters() if p.requires_grad}
    plan = plan_with(tmp_path, name, statements)

    assert plan.vision is not None
    assert {*plan.vision.frozen} == {"tower", "projector", "language_model"} - trains
    assert FROZEN not in {notice.unpriced for notice in plan.notices}
    assert plan.origins["vision"].where.startswith("train.py:")


@pytest.mark.parametrize("case", NOT_READ)
def test_what_is_not_understood_stays_unpriced(case, tmp_path):
    plan = plan_with(tmp_path, QWEN_NAME, NOT_READ[case])

    assert FROZEN in {notice.unpriced for notice in plan.notices}
    assert plan.vision is None or not plan.vision.frozen


def test_beside_an_adapter_a_part_is_frozen_anyway(tmp_path):
    adapter = (
        "from peft import LoraConfig, get_peft_model\n"
        "model = get_peft_model(model, LoraConfig(r=8, target_modules=['q_proj']))\n"
    )
    plan = plan_with(tmp_path, QWEN_NAME, "model.model.visual.requires_grad_(False)\n" + adapter)

    assert plan.adapter is not None
    assert plan.vision is None or not plan.vision.frozen
