"""A class of a script's own that is a tower, a projector and a language model adds nothing to a checkpoint of these parts."""

from __future__ import annotations

import pytest
from launch_of_script import plan_of

from preflight.launch import LaunchCommand
from preflight.pipeline import check_launch
from preflight.plugins import load_plugins
from preflight.request import Request
from preflight.scripts.uncounted.tower_calls import composites

ROW = ("LayerNorm", "Linear", "Linear")
SEEING = """\
from torch import nn
from torch.nn import CrossEntropyLoss
from transformers import LlamaForCausalLM, PreTrainedModel, Qwen2ForCausalLM
from peft import LoraConfig, get_peft_model

class Seer(PreTrainedModel):
    def __init__(self, config, eye=None, writer=None):
        super().__init__(config)
        self.scale = config.scale
        self.eye = SeerVisionModel(config.vision_config) if eye is None else eye
        if config.kind == "llama":
            self.writer_model = LlamaForCausalLM(config.llm_config)
        else:
            self.writer_model = Qwen2ForCausalLM(config.llm_config)
        self.between = nn.Sequential({row})
        {more}

    def wrap_writer(self, r=128):
        self.writer_model = get_peft_model(self.writer_model, LoraConfig(r=r, target_modules="all-linear"))

    def wrap_eye(self, r=128):
        self.eye = get_peft_model(self.eye, LoraConfig(r=r, target_modules=["qkv"]))

    def see(self, pixel_values):
        return self.between(self.eye(pixel_values).last_hidden_state)

    def forward(self, pixel_values, input_ids, labels=None, return_dict=None):
        seen = self.see(pixel_values)
        embeds = self.writer_model.get_input_embeddings()(input_ids)
        embeds[input_ids == 7] = seen.reshape(-1, embeds.shape[-1])
        outputs = self.writer_model(inputs_embeds=embeds)
        logits = outputs.logits
        loss = None
        if labels is not None:
            {loss}
        if not return_dict:
            return (loss,) + outputs[1:]
        return CausalLMOutputWithPast(loss=loss, logits=logits, hidden_states=outputs.hidden_states)
"""
TWO = "nn.LayerNorm(4 * n), nn.Linear(4 * n, m), nn.GELU(), nn.Linear(m, m)"
PLAIN = "loss = CrossEntropyLoss()(logits[..., :-1, :].contiguous().view(-1, 9), labels[..., 1:])"


def class_of(row=TWO, more="", loss=PLAIN):
    return SEEING.format(row=row, more=more, loss=loss)


def found(text):
    return composites([(text, text)])


def test_the_projector_of_a_composite_is_read():
    assert found(class_of()) == {"Seer": ROW}
    assert found(class_of("nn.Linear(n, m), nn.GELU(), nn.Linear(m, m)")) == {"Seer": ROW[1:]}


@pytest.mark.parametrize(
    "other",
    [
        {"more": "self.head = nn.Linear(8, 8)"},
        {"more": "self.mask = SamDecoder(config)"},
        {"more": "self.gate = nn.Parameter(torch.zeros(1))"},
        {"more": "self.add_module('head', nn.Linear(8, 8))"},
        {"more": "self.further = nn.Sequential(nn.Linear(8, 8))"},
        {"more": "self.more = nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 8), nn.Linear(8, 8))"},
        {"more": "self.resampler = SeerVisionResampler(config)"},
        {"more": "self.decoder = build_decoder(config)"},
        {"row": "nn.Linear(n, m), Resampler(m)"},
        {"row": "*layers"},
        {"loss": "loss = (logits.softmax(-1) * labels).sum()"},
    ],
    ids=lambda other: next(iter(other.values())),
)
def test_what_has_more_parts_or_another_loss_is_none(other):
    assert found(class_of(**other)) == {}


TRAIN = """\
import torch
from dataclasses import dataclass
from transformers import HfArgumentParser, Trainer, TrainingArguments
from seer import Seer

@dataclass
class Own:
    model_name_or_path: str = "gpt2"
    freeze_llm: bool = False
    freeze_backbone: bool = False
    freeze_mlp: bool = False
    use_writer_lora: int = 0
    use_eye_lora: int = 0
    unfreeze_vit_layers: int = 0

own, arguments = HfArgumentParser((Own, TrainingArguments)).parse_args_into_dataclasses()
model = Seer.from_pretrained(own.model_name_or_path, torch_dtype=torch.bfloat16)
if own.use_eye_lora:
    model.wrap_eye(r=own.use_eye_lora)
if own.use_writer_lora:
    model.wrap_writer(r=own.use_writer_lora)
tokens = tokenizer(rows, max_length=1024, truncation=True)
Trainer(model=model, args=arguments, train_dataset=tokens).train()
"""
RUN = (
    "torchrun --nproc_per_node 1 train.py --model_name_or_path OpenGVLab/InternVL3-1B-hf"
    " --bf16 True --output_dir out --per_device_train_batch_size 1"
)
FROZEN = ("--freeze_llm", "True", "--freeze_backbone", "True", "--freeze_mlp", "True")
ADDS = "what Seer adds to the model"


def report_of(folder, *flags, text=None):
    (folder / "requirements.txt").write_text("transformers==4.57.1\ntorch==2.8.0\npeft==0.17.1\n")
    (folder / "seer.py").write_text(text or class_of())
    (folder / "train.py").write_text(TRAIN)
    command = LaunchCommand((*RUN.split(), *flags), {}, str(folder))
    return check_launch(command, load_plugins(), Request("h100-sxm-80", {}))


def test_a_composite_of_the_checkpoints_own_parts_is_counted(tmp_path):
    report = report_of(tmp_path, "--freeze_backbone", "True")

    assert report.verdict.answer.value == "fits"
    assert report.verdict.unpriced == ()


def test_one_with_another_projector_is_not(tmp_path):
    other = class_of("nn.Linear(n, m), nn.GELU(), nn.Linear(m, m)")
    report = report_of(tmp_path, "--freeze_backbone", "True", text=other)

    assert report.verdict.unpriced == (ADDS,)


@pytest.mark.parametrize(
    ("flags", "unpriced"),
    [
        (FROZEN, ()),
        (
            FROZEN[:4],
            (ADDS,),
        ),  # the projector trains whole beside an adapter that is on the language model alone
        ((*FROZEN, "--unfreeze_vit_layers", "-4"), (ADDS,)),
    ],
)
def test_parts_that_train_beside_an_adapter_on_another_leave_it_open(tmp_path, flags, unpriced):
    report = report_of(tmp_path, *flags, "--use_writer_lora", "16")

    assert report.plan.adapter is not None
    assert report.verdict.unpriced == unpriced


def test_an_adapter_that_is_surely_made_is_one_whatever_another_branch_makes(tmp_path):
    """The method of a class that stands on a library's runs where the script calls it, and the branch is not taken."""
    plan = plan_of(
        tmp_path,
        f"{RUN} --use_writer_lora 16",
        {"seer.py": class_of(), "train.py": TRAIN},
    )

    assert plan.adapter is not None
    assert "all-linear" in {each.targets for each in plan.origins["adapter"].may_be}
    both = plan_of(tmp_path, f"{RUN} --use_writer_lora 16 --use_eye_lora 4", {})
    assert "adapter" in both.script_facts.unread
