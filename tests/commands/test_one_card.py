"""Out of memory on one consumer card: the first lines say what to change in the user's own file, and what it gives."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from in_process import preflight

LITERALS = """\
from trl import SFTConfig, SFTTrainer

args = SFTConfig(
    output_dir="out",
    per_device_train_batch_size=8,
    max_length=2048,
    gradient_checkpointing=False,
)
SFTTrainer(model="Qwen/Qwen2.5-0.5B", args=args, train_dataset=rows).train()
"""
TOO_LARGE = LITERALS.replace("Qwen2.5-0.5B", "Qwen2.5-7B")
PARSER = """\
from trl import ModelConfig, SFTConfig, SFTTrainer, TrlParser

args, model = TrlParser((SFTConfig, ModelConfig)).parse_args_and_config()
SFTTrainer(model=model.model_name_or_path, args=args, train_dataset=rows).train()
"""
AXOLOTL = """\
base_model: meta-llama/Llama-3.1-8B
datasets: [{path: tatsu-lab/alpaca, type: alpaca}]
sequence_len: 4096
micro_batch_size: 4
gradient_accumulation_steps: 2
adapter: lora
lora_r: 16
lora_alpha: 32
lora_target_linear: true
bf16: true
learning_rate: 0.0002
output_dir: out
"""
FLAGS = "--model_name_or_path Qwen/Qwen2.5-0.5B --per_device_train_batch_size 8 --max_length 2048 --gradient_checkpointing false"
LAUNCHES = {
    "literals": ("python train.py", {"train.py": LITERALS}, "train.py:"),
    "a parser": (f"python train.py {FLAGS}", {"train.py": PARSER}, "+ --"),
    "a file of a framework": ("axolotl train a.yaml", {"a.yaml": AXOLOTL}, "+gradient_"),
    "literals, and nothing that trains the same": (
        "python train.py",
        {"train.py": TOO_LARGE},
        "train.py:",
    ),
}
FIRST_LINES = 22
VERSIONS = ["--set", "versions.trl=1.16.0", "--set", "versions.transformers=5.24.0"]


def answer(folder: Path, command: str, launch: str, *options: str) -> str:
    done = preflight(
        folder, command, *VERSIONS, "--device", "rtx4090-24", *options, "--", *launch.split()
    )

    assert done.returncode in (0, 1), done.stderr
    return (done.stdout + done.stderr) if command == "fix" else done.stdout


def made(folder: Path, name: str) -> str:
    launch, files, _ = LAUNCHES[name]
    for path, text in files.items():
        (folder / path).write_text(text)
    return launch


@pytest.mark.parametrize("name", LAUNCHES)
def test_the_first_lines_say_what_to_change_where(tmp_path, name):
    lines = answer(tmp_path, "check", made(tmp_path, name)).splitlines()
    first = "\n".join(lines[:FIRST_LINES])

    assert lines[0].startswith("preflight: does not fit")
    assert LAUNCHES[name][2] in first
    assert "of 23.5 GiB: fits" in first or "of 23.5 GiB: tight" in first


def test_a_copy_is_written_of_a_script_whose_text_says_it(tmp_path):
    launch = made(tmp_path, "literals")
    told = answer(tmp_path, "check", launch)
    written = answer(tmp_path, "fix", launch)
    again = answer(tmp_path, "check", "python .preflight/train.py")

    assert "let `preflight fix` write a copy" in told
    assert (tmp_path / "train.py").read_text() == LITERALS
    assert "python .preflight/train.py" in written
    assert "fits" in again.splitlines()[0] and "not" not in again.splitlines()[0]


@pytest.mark.parametrize("method", ["lora", "qlora"])
def test_what_is_allowed_stays_on_the_page_and_is_written(tmp_path, method):
    launch = made(tmp_path, "literals, and nothing that trains the same")
    told = answer(tmp_path, "check", launch)
    allowed = answer(tmp_path, "check", launch, "--allow", method)
    written = answer(tmp_path, "fix", launch, "--allow", method)

    assert f"  {method}: " in told and f"--allow {method}" in told
    assert "LoRA" in allowed and "train the same" not in allowed
    assert "LoraConfig(r=16" in (tmp_path / ".preflight" / "train.py").read_text()
    assert "as written, fits rewritten" in written.splitlines()[0] or "fits rewritten" in written


def test_what_keeps_the_training_comes_first_and_a_shorter_sequence_last(tmp_path):
    launch = made(tmp_path, "literals, and nothing that trains the same")
    done = preflight(
        tmp_path,
        "check",
        "--device",
        "rtx4090-24",
        "--format",
        "json",
        "--",
        *launch.split(),
    )
    suggested = [s for s in json.loads(done.stdout)["suggested"] if s["verdict"] == "fits"]
    factors = [s["step_time_factor"] for s in suggested if s["id"] != "seq_len"]

    assert suggested
    assert factors == sorted(factors) or max(factors) - min(factors) < 0.05
    assert all(s["id"] != "seq_len" for s in suggested[:-1])
