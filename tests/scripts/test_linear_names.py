"""An adapter on what a script's own function finds is one on all linear layers where that function finds them all."""

from __future__ import annotations

import pytest
import torch
from launch_of_script import opens, plan_of
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

ALL = {
    "ends of names in a set": """
    kind = Linear4bit if packed else torch.nn.Linear
    names = set()
    for name, module in model.named_modules():
        if isinstance(module, kind):
            parts = name.split('.')
            names.add(parts[0] if len(parts) == 1 else parts[-1])
    if 'lm_head' in names:
        names.remove('lm_head')
    return list(names)
""",
    "the head in the same condition": """
    '''Return "every" name.'''
    found = []
    for name, module in model.named_modules():
        if isinstance(module, (torch.nn.Linear, Linear4bit)) and 'lm_head' not in name:
            found.append(name.split('.')[-1])
    return sorted(set(found))
""",
}
NOT_ALL = {
    "others left out": ALL["ends of names in a set"].replace(
        "        if isinstance",
        "        if 'mlp' in name:\n            continue\n        if isinstance",
    ),
    "one more taken out": ALL["ends of names in a set"].replace(
        "    return", "    names.discard('o_proj')\n    return"
    ),
    "embeddings too": ALL["the head in the same condition"].replace(
        "Linear4bit)", "torch.nn.Embedding)"
    ),
    "the head too": ALL["the head in the same condition"].replace(" and 'lm_head' not in name", ""),
}
SCRIPT = """\
import os
import torch
from bitsandbytes.nn import Linear4bit
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, HfArgumentParser, Trainer, TrainingArguments
from dataclasses import dataclass

@dataclass
class Own:
    lora_r: int = 32
    packed: bool = False

def linear_names(model, packed):
{body}
own, args = HfArgumentParser((Own, TrainingArguments)).parse_args_into_dataclasses()
model = AutoModelForCausalLM.from_pretrained("meta-llama/Llama-2-7b-hf")
{made}
Trainer(model=model, args=args, train_dataset=rows).train()
"""
MADE = """\
names = linear_names(model, own.packed)
model = get_peft_model(model, LoraConfig(r=own.lora_r, target_modules=names))
"""
MAY_BE_MADE = """\
if os.path.isdir(args.output_dir):
    model = load_adapted(model, args.output_dir)
else:
    names = linear_names(model, own.packed)
    model = get_peft_model(model, LoraConfig(r=own.lora_r, target_modules=names))
"""


def plan_with(folder, body, made=MADE, words=""):
    script = SCRIPT.format(body=body, made=made)
    command = f"torchrun --nproc_per_node 8 train.py --output_dir out {words}"
    return plan_of(folder, command, {"train.py": script})


@pytest.mark.parametrize("body", ALL.values(), ids=ALL)
def test_what_such_a_function_finds_is_what_peft_calls_all_linear(body, tmp_path):
    given: dict[str, object] = {"torch": torch, "Linear4bit": torch.nn.Linear}
    exec(f"def linear_names(model, packed):\n{body}", given)  # a text of this file
    config = LlamaConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        vocab_size=64,
    )
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    names = given["linear_names"](model, False)  # type: ignore[operator]
    adapted = get_peft_model(model, LoraConfig(target_modules="all-linear"))
    taken = {name.rpartition(".")[2] for name in adapted.targeted_module_names}

    assert set(names) == taken
    assert plan_with(tmp_path, body).adapter.targets == "all-linear"


@pytest.mark.parametrize("body", NOT_ALL.values(), ids=NOT_ALL)
def test_a_function_that_leaves_some_out_or_takes_more_is_not_followed(body, tmp_path):
    assert "adapter" in opens(plan_with(tmp_path, body))


def test_a_rank_by_a_flag_goes_on_what_the_script_names_where_it_may_make_another(tmp_path):
    body = ALL["ends of names in a set"]
    plan = plan_with(tmp_path, body, MAY_BE_MADE, "--lora_r 64")

    assert (plan.adapter.rank, plan.adapter.targets) == (64, "all-linear")
    unread = plan_with(tmp_path, NOT_ALL["others left out"], MAY_BE_MADE, "--lora_r 64")
    assert "adapter" in opens(unread)
