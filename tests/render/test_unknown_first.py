"""What a report says first where nobody can tell: which model it is, where that stands, and what settles it."""

from __future__ import annotations

from pathlib import Path

import pytest

from preflight.cli import main

SCRIPT = """\
from trl import SFTConfig, SFTTrainer
args = SFTConfig(output_dir="out", max_length=2048, per_device_train_batch_size=1)
trainer = SFTTrainer(model="my-org/Mystery-9B", args=args, train_dataset=rows)
trainer.train()
"""
CONFIG = """\
stage: sft
do_train: true
model_name_or_path: my-org/Mystery-9B
finetuning_type: lora
cutoff_len: 2048
dataset: alpaca
template: llama3
output_dir: out
"""


@pytest.mark.parametrize(
    ("name", "text", "command", "place"),
    [
        ("train.py", SCRIPT, ["python", "train.py"], "train.py:3"),
        ("sft.yaml", CONFIG, ["llamafactory-cli", "train", "sft.yaml"], "sft.yaml:3"),
    ],
)
def test_a_model_that_is_not_known_is_named_with_its_place_before_what_is_assumed(
    name, text, command, place, tmp_path: Path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_text(text)

    assert main(["check", "--device", "rtx4090-24", "--", *command]) == 0
    lines = capsys.readouterr().out.split("\n")

    assert lines[0] == "preflight: unknown: model my-org/Mystery-9B not known."
    assert lines[1:3] == ["warning: not known here: model my-org/Mystery-9B", f"  at   {place}"]
    assert "--online" in lines[3]
    assert any(line.startswith("assumed:") for line in lines[4:])


JOB = """\
#!/bin/bash
#SBATCH --nodes=1
#SBATCH --gpus-per-node=1
python train.py
"""


def test_a_job_that_values_decide_asks_for_them_as_a_check_does(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    script = SCRIPT.replace("my-org/Mystery-9B", "Qwen/Qwen2.5-0.5B").replace(
        "batch_size=1", "batch_size=8, gradient_checkpointing=len(rows) > 9"
    )
    (tmp_path / "train.py").write_text(script)
    (tmp_path / "job.sh").write_text(JOB)
    command = ["check", "--device", "tiny:24", "--", "python", "train.py"]
    main(command)
    asked = capsys.readouterr().out.split("\n")[0]
    main(["sbatch", "--device", "tiny:24", "job.sh"])
    told = capsys.readouterr()

    assert asked.startswith("preflight: cannot tell. ") and " says which" in asked
    assert (told.out + told.err).split("\n")[0] == f"{asked} (job.sh:4)"
