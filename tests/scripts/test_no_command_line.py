"""A flag reaches nothing behind a script that reads no command line: it decides no field, and that is said."""

from __future__ import annotations

import subprocess
import sys

import pytest
from launch_of_script import plan_of

SCRIPT = """\
from trl import SFTConfig, SFTTrainer
trainer = SFTTrainer(
    model="meta-llama/Llama-3.1-8B",
    args=SFTConfig(output_dir="out", per_device_train_batch_size=4, max_length=4096),
)
trainer.train()
"""
FLAGS = "--load_in_4bit --use_peft --lora_r 16 --per_device_train_batch_size=1"
READS = {
    "a parser of its own": "import argparse\nargparse.ArgumentParser().parse_known_args()\n",
    "the words themselves": "import sys\nprint(sys.argv)\n",
    "what it imports, and is not here": "from mine.start import start\nstart()\n",
}


def dropped(plan):
    return [notice.message for notice in plan.notices if notice.id == "PF122"]


def test_a_flag_behind_a_script_that_reads_none_changes_nothing(tmp_path):
    plain = plan_of(tmp_path, "python train.py", {"train.py": SCRIPT})
    plan = plan_of(tmp_path, f"python train.py {FLAGS}", {})

    assert (plan.adapter, plan.base_quantization, plan.micro_batch_size) == (None, None, 4)
    assert plain.with_edits({"cwd": plan.cwd}).to_dict() == plan.to_dict()
    assert dropped(plan) == [
        "train.py reads no command line: --load_in_4bit and 3 more flags reach nothing"
    ]
    assert not dropped(plain)


@pytest.mark.parametrize("binding", ["args = SFTConfig(", "args: SFTConfig = trl.SFTConfig("])
def test_settings_that_the_script_calls_args_are_no_command_line(tmp_path, binding):
    made = 'output_dir="out", per_device_train_batch_size=4, max_length=4096'
    script = SCRIPT.replace(f"args=SFTConfig({made})", "args=args")
    script = script.replace("trainer =", f"{binding}{made})\ntrainer =")
    plan = plan_of(tmp_path, f"python train.py {FLAGS}", {"train.py": script})

    assert dropped(plan) and (plan.adapter, plan.micro_batch_size) == (None, 4)


@pytest.mark.parametrize("made", ["args = options()", "args = SFTConfig(**vars(parse_args()))"])
def test_what_is_called_args_may_be_the_command_line(tmp_path, made):
    script = SCRIPT.replace("trainer =", f"from mine import options\n{made}\ntrainer =")
    plan = plan_of(tmp_path, f"python train.py {FLAGS}", {"train.py": script})

    assert not dropped(plan)


def test_python_says_nothing_of_such_a_flag(tmp_path):
    (tmp_path / "quiet.py").write_text("import json\nprint(json.dumps(1))\n")
    command = [sys.executable, "quiet.py", *FLAGS.split()]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)

    assert (done.stdout, done.stderr) == ("1\n", "")


@pytest.mark.parametrize("way", READS)
def test_a_flag_may_reach_a_script_that_reads_some(tmp_path, way):
    plan = plan_of(tmp_path, f"python train.py {FLAGS}", {"train.py": READS[way] + SCRIPT})

    assert not dropped(plan)


def test_a_file_of_the_repository_may_read_them(tmp_path):
    files = {"train.py": "import settings\n" + SCRIPT, "settings.py": READS["the words themselves"]}

    assert not dropped(plan_of(tmp_path, f"python train.py {FLAGS}", files))
