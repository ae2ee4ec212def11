"""A script that only calls what it imports is read through, wherever the package lies."""

from __future__ import annotations

import pytest
from launch_of_script import plan_of

TRAIN = """\
import torch
from dataclasses import dataclass, field
from transformers import AutoModelForCausalLM, HfArgumentParser, Trainer, TrainingArguments

@dataclass
class Mine(TrainingArguments):
    model_max_length: int = field(default=384)

def train(attn_implementation=None):
    training, = HfArgumentParser(Mine).parse_args_into_dataclasses()
    model = AutoModelForCausalLM.from_pretrained(
        "meta-llama/Llama-2-7b-hf", torch_dtype=torch.bfloat16, attn_implementation=attn_implementation
    )
    Trainer(model=model, args=training).train()

if __name__ == "__main__":
    train(attn_implementation="eager")
"""
ENTRY = 'from pkg.run.train import train\n\ntrain(attn_implementation="flash_attention_2")\n'
GUARDED = 'from pkg.run.train import train\n\nif __name__ == "__main__":\n    train(attn_implementation="flash_attention_2")\n'
WORDS = "--output_dir out --bf16 True --per_device_train_batch_size 3"


@pytest.mark.parametrize("entry", [ENTRY, GUARDED])
@pytest.mark.parametrize(
    "script, module",
    [
        ("entry.py", "pkg/run/train.py"),
        ("pkg/run/entry.py", "pkg/run/train.py"),
        ("scripts/deep/entry.py", "pkg/run/train.py"),
        ("scripts/entry.py", "src/pkg/run/train.py"),
    ],
)
def test_an_entry_of_one_line_is_read_through(entry, script, module, tmp_path):
    files = {script: entry, module: TRAIN}
    plan = plan_of(tmp_path, f"torchrun --nproc_per_node 8 {script} {WORDS}", files)

    assert plan.trainer == "transformers"
    assert (plan.attention, plan.seq_len, plan.micro_batch_size) == ("flash_attention_2", 384, 3)


def test_a_module_is_launched_by_name(tmp_path):
    command = f"torchrun --nproc_per_node 8 -m pkg.run.train {WORDS}"
    plan = plan_of(tmp_path, command, {"pkg/run/train.py": TRAIN})

    assert (plan.attention, plan.seq_len) == ("eager", 384)


FIRE = """\
import torch
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments
from peft import LoraConfig, get_peft_model

def train(base_model="meta-llama/Llama-2-7b-hf", micro=2, cutoff_len=320, modules=["q_proj"]):
    def tokenize(row):
        return tokenizer(row, truncation=True, max_length=cutoff_len)
    model = AutoModelForCausalLM.from_pretrained(base_model, torch_dtype=torch.bfloat16)
    model = get_peft_model(model, LoraConfig(r=8, target_modules=modules))
    arguments = TrainingArguments(output_dir="o", bf16=True, per_device_train_batch_size=micro)
    Trainer(model=model, args=arguments, train_dataset=rows.map(tokenize)).train()
"""


@pytest.mark.parametrize("is_imported", [True, False])
def test_fire_calls_a_function_here_or_of_an_import(is_imported, tmp_path):
    call = '\nif __name__ == "__main__":\n    import fire\n    fire.Fire(train)\n'
    files = {"train.py": FIRE + call}
    if is_imported:
        files = {"train.py": f"from pkg.training import train\n{call}", "pkg/training.py": FIRE}
    command = "torchrun --nproc_per_node 8 train.py --micro 5 --modules=[k_proj,v_proj]"
    plan = plan_of(tmp_path, command, files)

    assert (plan.micro_batch_size, plan.seq_len) == (5, 320)
    assert plan.adapter is not None and plan.adapter.targets == ("k_proj", "v_proj")


@pytest.mark.parametrize(
    "path",
    ["pkg/run.py", "pkg/run/__main__.py", "src/pkg/run.py", "src/pkg/run/__main__.py"],
)
def test_a_module_is_found_where_its_package_lies(path, tmp_path):
    text = (
        "from transformers import Trainer, TrainingArguments\n"
        "args = TrainingArguments('o', per_device_train_batch_size=3)\nTrainer(args=args).train()\n"
    )
    plan = plan_of(tmp_path, "torchrun --nproc_per_node 2 -m pkg.run", {path: text})

    assert plan.micro_batch_size == 3
    assert plan.origins["micro_batch_size"].where == f"{path}:2"
