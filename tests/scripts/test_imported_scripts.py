"""A script that only calls what it imports is read through, wherever the package lies."""

from __future__ import annotations

import os
import sys

import pytest
from launch_of_script import plan_of

from preflight.launch import LaunchCommand
from preflight.scripts.python.package_folders import _paths_added, added_folders

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


@pytest.mark.parametrize(
    ("folder", "is_read"), [("pkg/run", True), ("pkg/run/deep", True), ("other/run", False)]
)
def test_a_launch_within_a_package_imports_by_its_name(folder, is_read, tmp_path):
    """Nothing is installed: the folder of `pkg` has to be on the path for the launch to run at all."""
    (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "pkg" / "run").mkdir(parents=True, exist_ok=True)
    (tmp_path / "pkg" / "run" / "train.py").write_text(TRAIN)
    plan = plan_of(
        tmp_path / folder, f"torchrun --nproc_per_node 8 entry.py {WORDS}", {"entry.py": ENTRY}
    )

    assert (plan.trainer == "transformers") is is_read
    assert plan.seq_len == (384 if is_read else None)


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


CLI = """\
from transformers import HfArgumentParser
from pkg.options import Options
from pkg.run import run

def main():
    options, = HfArgumentParser(Options).parse_args_into_dataclasses()
    run(options)

if __name__ == "__main__":
    main()
"""
OPTIONS = """\
from dataclasses import dataclass
from typing import List, Optional
from transformers import TrainingArguments

@dataclass
class Options(TrainingArguments):
    model_name: str = "meta-llama/Llama-2-7b-hf"
    lora_r: int = 8
    lora_target_modules: Optional[List[str]] = None
    every_linear: bool = False
    load_in_4bit: bool = False
    nested: bool = True
"""
RUN = """\
from pkg.utils import load_model, make_trainer

def run(options):
    make_trainer(options, load_model(options)).train()
"""
PARTS = "from .models import load_model\nfrom .trainers import make_trainer\n"
MODELS = """\
import torch
from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

def load_model(options):
    more = {}
    if options.load_in_4bit:
        more["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=options.nested
        )
    model = AutoModelForCausalLM.from_pretrained(options.model_name, torch_dtype=torch.float16, **more)
    if options.load_in_4bit:
        model = prepare_model_for_kbit_training(model)
    targets = options.lora_target_modules or []
    if options.every_linear:
        targets = [name for name, module in model.named_modules() if "Linear" in str(module)]
    return get_peft_model(model, LoraConfig(r=options.lora_r, target_modules=targets))
"""
TRAINERS = """\
from transformers import Trainer

def make_trainer(options, model):
    return Trainer(model=model, args=options)
"""
CHAIN = {
    "cli.py": CLI,
    "pkg/__init__.py": "",
    "pkg/options.py": OPTIONS,
    "pkg/run.py": RUN,
    "pkg/utils/__init__.py": PARTS,
    "pkg/utils/models.py": MODELS,
    "pkg/utils/trainers.py": TRAINERS,
}


@pytest.mark.parametrize("is_packed", [False, True])
def test_what_makes_the_model_is_found_behind_files_that_hand_on(is_packed, tmp_path):
    words = "--output_dir out --fp16 True --per_device_train_batch_size 2 --lora_target_modules q_proj v_proj"
    packed = " --load_in_4bit True" if is_packed else ""
    plan = plan_of(tmp_path, f"torchrun cli.py {words}{packed}", CHAIN)

    assert plan.model == "meta-llama/Llama-2-7b-hf"
    assert plan.load_dtype == "fp16" and plan.adapter.targets == ("q_proj", "v_proj")
    if is_packed:
        packing = plan.base_quantization
        assert packing.double_quant and packing.upcast_unquantized_to_fp32 == "all"
    else:
        assert plan.base_quantization is None


def test_targets_that_a_helper_counts_are_open(tmp_path):
    words = "--output_dir out --fp16 True --per_device_train_batch_size 2 --every_linear True"
    plan = plan_of(tmp_path, f"torchrun cli.py {words}", CHAIN)

    targets = {each.targets for each in plan.origins["adapter"].may_be}
    assert "all-linear" in targets


def test_what_a_script_adds_is_worked_out_once_however_much_it_imports(tmp_path):
    """A large script took twelve seconds, nine tenths of them for this."""
    names = [f"part_{number}" for number in range(20)]
    files = {f"lib/{name}.py": "VALUE = 1\n" for name in names}
    files["t.py"] = "import sys\nsys.path.append('lib')\n" + "".join(
        f"from {name} import VALUE\n" for name in names
    )
    before = _paths_added.cache_info().misses
    plan_of(tmp_path, "python t.py", files)

    assert _paths_added.cache_info().misses == before + 1
