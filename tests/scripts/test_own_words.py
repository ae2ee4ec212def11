"""The words that a script is given: `sys.argv` as the launcher makes it, counted and taken one by one."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from launch_of_script import opens, plan_of

from preflight.launch import LaunchCommand
from preflight.scripts.python.own_words import num_words, word
from preflight.scripts.python.scope import UNKNOWN, Known

LAUNCHES = {
    "python train.py a.json": ("a.json",),
    "torchrun --nproc_per_node 2 train.py a.json 3": ("a.json", "3"),
    "accelerate launch train.py --x 1": ("--x", "1"),
    "deepspeed --num_gpus 2 train.py a.json": (None, "a.json"),
    "deepspeed --no_local_rank train.py a.json": ("a.json",),
    "python -m torch.distributed.launch --nproc_per_node 2 train.py a.json": (None, "a.json"),
    "python -m torch.distributed.launch --use_env train.py a.json": ("a.json",),
    "torchrun --nproc_per_node 2 train.py $FILE a.json": (None, "a.json"),
}


@pytest.mark.parametrize(("line", "words"), LAUNCHES.items())
def test_words_are_counted_as_the_script_sees_them(tmp_path, line, words):
    command = LaunchCommand(tuple(line.split()), {}, str(tmp_path))
    found = [word(command, "train.py", number) for number in range(1, len(words) + 1)]

    assert num_words(command, "train.py") == len(words) + 1
    assert [each.value if isinstance(each, Known) else None for each in found] == list(words)
    assert word(command, "train.py", len(words) + 1) is UNKNOWN
    assert num_words(command, "other.py") is UNKNOWN


@pytest.mark.libraries
def test_a_launcher_adds_the_word_that_is_counted(tmp_path):
    (tmp_path / "train.py").write_text("import sys\nprint(sys.argv)\n")
    words = ("-m", "torch.distributed.launch", "--nproc_per_node", "1", "train.py", "a.json")
    done = subprocess.run([sys.executable, *words], cwd=tmp_path, capture_output=True, text=True)
    command = LaunchCommand(("python", *words), {}, str(tmp_path))

    seen = ast.literal_eval(done.stdout.strip().splitlines()[-1])
    assert len(seen) == num_words(command, "train.py")
    assert seen[2] == word(command, "train.py", 2).value == "a.json"
    assert Path(seen[0]).name == "train.py"


HELPER = "from transformers import *\n\ndef build(name):\n    return AutoModelForCausalLM.from_pretrained(name)\n"
SCRIPT = """\
import sys
from transformers import *
from helper import build

def main(args, training_args):
    model = build("gpt2")
    Trainer(model=model, args=training_args).train()

parser = HfArgumentParser((Mine, TrainingArguments))
if len(sys.argv) == 2 and sys.argv[1].endswith(".json"):
    args, training_args = parser.parse_json_file(json_file=sys.argv[1])
else:
    args, training_args = parser.parse_args_into_dataclasses()
main(args, training_args)
"""


@pytest.mark.parametrize("words", ["--output_dir o --bf16", "run.json"])
def test_the_branch_that_parses_is_known_and_so_is_what_runs_before_the_model(tmp_path, words):
    """Under ZeRO-3 a model is divided as it is made where TrainingArguments were made before."""
    files = {
        "train.py": SCRIPT,
        "helper.py": HELPER,
        "run.json": '{"output_dir": "o"}',
        "zero3.yaml": "distributed_type: DEEPSPEED\ndeepspeed_config: {zero_stage: 3}\nnum_processes: 8\n",
    }
    plan = plan_of(tmp_path, f"accelerate launch --config_file zero3.yaml train.py {words}", files)

    assert plan.zero_init is True
    assert "zero_init" not in opens(plan)
