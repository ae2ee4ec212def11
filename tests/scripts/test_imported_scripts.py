"""A script that only calls what it imports is read through, wherever the package lies."""

from __future__ import annotations

import os
import sys

import pytest
from launch_of_script import plan_of

from preflight.launch import LaunchCommand
from preflight.scripts.package_folders import added_folders

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


ADDS = [
    "sys.path.append('..')",
    "sys.path.append('../..')",
    "sys.path.insert(0, '.')",
    "sys.path.append(os.path.abspath(os.path.join(os.path.dirname(__file__), os.path.pardir)))",
    "sys.path.append(os.path.join(os.path.dirname(__file__), '..'))",
    "sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))",
    "sys.path.insert(0, str(Path(__file__).resolve().parents[1]))",
    "sys.path.insert(0, str(Path(__file__).resolve().parent.parent / 'lib'))",
    "ROOT = Path(__file__).parent\nsys.path.append(str(ROOT / 'lib'))",
    "here = os.path.dirname(os.path.realpath(__file__))\nsys.path.append(here + '')",
    "sys.path.insert(1, os.getcwd())",
    "sys.path.append(os.environ.get('NOWHERE_AT_ALL', '/tmp'))",
]


@pytest.mark.parametrize("script", ["train.py", "run/train.py"])
@pytest.mark.parametrize("adds", ADDS)
def test_folders_that_a_script_adds_are_those_that_python_gets(adds, script, tmp_path, monkeypatch):
    folder = tmp_path / "one" / "two"
    (folder / "run").mkdir(parents=True)
    text = f"import os, sys\nfrom pathlib import Path\n{adds}\n"
    (folder / script).write_text(text)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [])
    exec(text, {"__file__": script})
    wanted = [os.path.realpath(path) for path in sys.path]
    command = LaunchCommand(("python", script), {}, str(folder))
    found = [os.path.realpath(os.path.join(folder, each)) for each in added_folders(command)]

    is_left = any(word in adds for word in ("environ", "+ ''"))  # known when it runs
    assert found == ([] if is_left else wanted)


def test_a_module_above_the_launch_is_found_where_the_script_adds_its_folder(tmp_path):
    (tmp_path / "step").mkdir()
    (tmp_path / "common").mkdir()
    (tmp_path / "common" / "train.py").write_text(TRAIN)
    entry = 'import sys\n{}from common.train import train\ntrain(attn_implementation="sdpa")\n'
    lengths = []
    for adds in ("", "sys.path.append('..')\n"):
        files = {"entry.py": entry.format(adds)}
        plan = plan_of(tmp_path / "step", f"torchrun --nproc_per_node 8 entry.py {WORDS}", files)
        lengths.append(plan.seq_len)

    assert lengths == [None, 384]
