"""A model that a script builds of sizes that it writes out has these sizes, in fp32; of any other nothing is known."""

from __future__ import annotations

import pytest
import torch
import transformers

from preflight.launch import LaunchCommand
from preflight.pipeline import check_launch
from preflight.plugins import load_plugins
from preflight.request import Request
from preflight.scripts.settings.built_models import BUILT

SCRIPT = """\
import torch
import transformers
from transformers import *
from helpers import adjust, choose
{before}
Trainer(model, TrainingArguments("out", per_device_train_batch_size=2, bf16=True)).train()
"""
LOOP = """\
import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader
from transformers import GPT2Config, GPT2LMHeadModel
from rows import ids, rows

accelerator = Accelerator(mixed_precision="bf16")
{before}
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
loader = DataLoader(rows, batch_size=4)
model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
for batch in loader:
    accelerator.backward(model(**batch).loss)
    optimizer.step()
"""
LLAMA = "LlamaConfig(hidden_size=64, intermediate_size=160, num_hidden_layers=3, num_attention_heads=4, vocab_size=96)"
GPT2 = "GPT2Config(n_embd=64, n_layer=2, n_head=4, vocab_size=100, n_positions=32, bos_token_id=ids.first)"
BUILDS = {
    "a config and its model": (SCRIPT, f"model = LlamaForCausalLM({LLAMA})"),
    "by a name": (SCRIPT, f"config = {LLAMA}\nconfig.use_cache = False\nmodel = LlamaForCausalLM(config=config)"),
    "by the auto class": (SCRIPT, f"config = transformers.{LLAMA}\nmodel = AutoModelForCausalLM.from_config(config)"),
    "in a function": (SCRIPT, f"def build():\n    return LlamaForCausalLM({LLAMA})\n\nmodel = build().to('cuda')"),
    "sizes of the script": (SCRIPT, 'SIZES = {"num_hidden_layers": 2, "hidden_size": 64, "intermediate_size": 96,'
        ' "num_attention_heads": 2, "tie_word_embeddings": True}\nmodel = LlamaForCausalLM(LlamaConfig(**SIZES))'),
    "a loop": (LOOP, f"model = GPT2LMHeadModel({GPT2})"),
    "experts": (SCRIPT, "model = MixtralForCausalLM(MixtralConfig(num_hidden_layers=1, hidden_size=64,"
        " intermediate_size=96, num_local_experts=4, num_attention_heads=4, num_key_value_heads=2))"),
}  # fmt: skip
ANY = {
    "a size that only running tells": f"model = LlamaForCausalLM({LLAMA.replace('96)', 'len(tokenizer))')})",
    "sizes from elsewhere": "model = LlamaForCausalLM(LlamaConfig(**choose()))",
    "a size that is set later": f"config = {LLAMA}\nconfig.num_hidden_layers = choose()\nmodel = LlamaForCausalLM(config)",
    "an entry that is set later": f'config = {LLAMA}\nconfig.head_dim = 128\nmodel = LlamaForCausalLM(config)',
    "a method of the config": f"config = {LLAMA}\nconfig.update(choose())\nmodel = LlamaForCausalLM(config)",
    "a function that is given it": f"def widen(c):\n    c.hidden_size = 128\n\nconfig = {LLAMA}\nwiden(config)\nmodel = LlamaForCausalLM(config)",
    "a class of the script's": f"class LlamaForCausalLM(torch.nn.Module):\n    def __init__(self, config):\n        self.more = torch.nn.Linear(9, 9)\n\nmodel = LlamaForCausalLM({LLAMA})",
    "a config of the script's": f"class LlamaConfig(PretrainedConfig):\n    pass\n\nmodel = LlamaForCausalLM({LLAMA})",
    "a config of another": f"model = MistralForCausalLM({LLAMA})",
    "one of two": f"if choose():\n    model = LlamaForCausalLM({LLAMA})\nelse:\n    model = LlamaForCausalLM({LLAMA.replace('3', '30')})",
    "another dtype": f"torch.set_default_dtype(torch.bfloat16)\nmodel = LlamaForCausalLM({LLAMA})",
    "another embedding": f"model = LlamaForCausalLM({LLAMA})\nmodel.resize_token_embeddings(choose())",
    "a second model": f'model = LlamaForCausalLM({LLAMA})\nold = AutoModelForCausalLM.from_pretrained("gpt2")',
}  # fmt: skip


def report_of(folder, text, before):
    (folder / "train.py").write_text(text.format(before=before))
    command = LaunchCommand(("python", "train.py"), {}, str(folder))
    return check_launch(command, load_plugins(), Request("h100-sxm-80"))


@pytest.mark.parametrize("told", BUILDS.values(), ids=BUILDS)
def test_it_has_the_parameters_that_the_script_builds(told, tmp_path):
    text, before = told
    found = report_of(tmp_path, text, before)
    space = {
        "ids": type("Ids", (), {"first": 0}),
        "transformers": transformers,
        **vars(transformers),
    }
    names = {"AutoModelForCausalLM", *BUILT, *(config for config, _ in BUILT.values())}
    space |= {name: getattr(transformers, name) for name in names}
    with torch.device("meta"):
        exec(before.replace(".to('cuda')", ""), space)

    assert found.model.num_params == sum(p.numel() for p in space["model"].parameters())
    assert found.plan.load_dtype == "fp32" and {*found.plan.origins["load_dtype"].may_be} == set()
    assert found.plan.adapter is None
    assert not {"adapter", "base_quantization"} & {
        n for n, o in found.plan.origins.items() if o.may_be
    }


@pytest.mark.parametrize(
    ("before", "zero_init"),
    [
        (f"model = LlamaForCausalLM({LLAMA})", (False, ())),
        (f"import deepspeed\nwith deepspeed.zero.Init():\n    model = LlamaForCausalLM({LLAMA})", (True, (True, False))),
    ],
)  # fmt: skip
def test_under_zero_3_it_is_whole_as_it_is_made(before, zero_init, tmp_path):
    (tmp_path / "train.py").write_text(SCRIPT.format(before=before))
    words = "accelerate launch --use_deepspeed --zero_stage 3 --num_processes 8 train.py"
    command = LaunchCommand(tuple(words.split()), {}, str(tmp_path))
    plan = check_launch(command, load_plugins(), Request("h100-sxm-80")).plan

    assert (plan.zero_init, plan.origins["zero_init"].may_be) == zero_init


@pytest.mark.parametrize("before", ANY.values(), ids=ANY)
def test_of_another_nothing_is_known(before, tmp_path):
    assert report_of(tmp_path, SCRIPT, before).plan.model_config is None


@pytest.mark.parametrize("make", ["LlamaForCausalLM", "AutoModelForCausalLM.from_config"])
@pytest.mark.parametrize(
    ("word", "attention"),
    [("", "sdpa"), (", attn_implementation='eager'", "eager"), (", _attn_implementation='flash_attention_2'", "flash_attention_2")],
)  # fmt: skip
def test_it_has_the_attention_that_its_config_says(make, word, attention, tmp_path):
    before = f"model = {make}({LLAMA[:-1]}{word}))"
    found = report_of(tmp_path, SCRIPT, before)

    assert (found.plan.model_config is None, found.plan.attention) == (False, attention)


def test_classes_are_those_of_transformers():
    for cls, (config, model_type) in BUILT.items():
        assert getattr(transformers, cls).config_class is getattr(transformers, config)
        assert getattr(transformers, config).model_type == model_type
