"""Logits that a module around the head casts, counted on transformers' own model; a launch fits where the most of it does."""

from __future__ import annotations

import pytest

import preflight
from preflight.formulas.objectives.logits_at_most import CAST
from preflight.memory import Moment

TOKENS, WORDS = 256, 16384


@pytest.mark.libraries
@pytest.mark.parametrize("loss", ["own", "log-probabilities"])
def test_a_head_that_casts_takes_no_more_than_is_bounded(loss):
    import torch
    from allocations import Allocations
    from transformers import LlamaConfig, LlamaForCausalLM

    class Cast(torch.nn.Sequential):
        def forward(self, x):
            return super().forward(x).to(torch.float32)

    def peaks(casts: bool) -> dict[str, int]:
        sizes = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1}
        config = LlamaConfig(**sizes, num_attention_heads=4, vocab_size=WORDS)
        model = LlamaForCausalLM(config).to(torch.bfloat16)
        if casts:
            model.lm_head = Cast(model.lm_head)
        ids = torch.randint(0, WORDS, (1, TOKENS))
        with Allocations() as counted:
            counted.mark("forward")
            if loss == "own":
                value = model(input_ids=ids, labels=ids).loss
            else:
                value = model(input_ids=ids).logits.log_softmax(-1)[..., 0].mean()
            counted.mark("backward")
            value.backward()
        return counted.peaks

    plain, cast, entries = peaks(False), peaks(True), TOKENS * WORDS

    assert cast["forward"] <= plain["forward"] + CAST[Moment.LOSS_FORWARD] * entries * 1.01
    assert cast["backward"] <= plain["backward"] + CAST[Moment.LOSS_BACKWARD] * entries * 1.01
    if loss == "own":  # the model casts them all the same
        assert cast["forward"] <= plain["forward"]
    else:
        assert cast["forward"] > plain["forward"] + entries


SCRIPT = """\
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, HfArgumentParser, Trainer, TrainingArguments

class InFloat({base}):
    def forward(self, x):
        return {cast}

args, = HfArgumentParser(TrainingArguments).parse_args_into_dataclasses()
model = AutoModelForCausalLM.from_pretrained("Qwen/Qwen2.5-7B", torch_dtype=torch.bfloat16)
head = model.lm_head
{change}
model = get_peft_model(model, LoraConfig(r=8, target_modules=["q_proj"]))
Trainer(model=model, args=args, train_dataset=rows).train()
"""
CASTS = "super().forward(x).to(torch.float32)"
NAMED = "logits that the head makes fp32"


@pytest.mark.parametrize(
    ("base", "cast", "change", "named"),
    [
        ("torch.nn.Sequential", CASTS, "model.lm_head = InFloat(model.lm_head)", NAMED),
        ("torch.nn.Sequential", "super().forward(x.to(wide)).float()", "setattr(model, 'lm_head', InFloat(head))", NAMED),
        ("torch.nn.Sequential", CASTS, "model.model.layers[0].mlp = InFloat(model.model.layers[0].mlp)", "what InFloat as mlp makes of the model"),
        ("torch.nn.Sequential", CASTS, "name = 'lm_head'\nlayer: torch.nn.Linear = getattr(model, name)\nsetattr(model, name, InFloat(layer))", "what setattr adds to the model"),
        ("torch.nn.Sequential", CASTS, "head_name = 'lm_head'\nlayer: torch.nn.Linear = getattr(model, head_name)\nsetattr(model, head_name, InFloat(layer))", NAMED),
        ("torch.nn.Sequential", CASTS, "model.layers[0].output = InFloat(model.layers[0].output)", "what InFloat as output makes of the model"),
        ("torch.nn.Sequential", CASTS, "model.lm_head = InFloat(Wide())", "what InFloat as lm_head makes of the model"),
        ("torch.nn.Module", CASTS, "model.lm_head = InFloat(model.lm_head)", "what InFloat as lm_head makes of the model"),
        ("torch.nn.Sequential", "self.more(super().forward(x)).float()", "model.lm_head = InFloat(model.lm_head)", "what InFloat as lm_head makes of the model"),
    ],
)  # fmt: skip
def test_a_head_that_casts_is_bounded(tmp_path, base, cast, change, named):
    (tmp_path / "t.py").write_text(SCRIPT.format(base=base, cast=cast, change=change))
    flags = "--bf16 --output_dir o --per_device_train_batch_size 2 --gradient_checkpointing"
    words = f"torchrun --nproc-per-node 1 t.py {flags}".split()
    told = preflight.check(
        words, device="h100-sxm-80", cwd=tmp_path, settings={"seq_len": 1024}
    ).to_dict()

    assert named in told["unpriced"] or named in told["bounded"]
    assert (told["verdict"] == "fits") == (named == NAMED), told["reason"]
