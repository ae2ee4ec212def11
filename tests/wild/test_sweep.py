"""The sweep over clones finds the launches of a repository of usual shape, and counts what they are answered."""

from __future__ import annotations

from pathlib import Path

import pytest

from .checking import answers_to
from .extraction import launches_of
from .table import Table

README = """\
Train it:

```bash
export BATCH=4
accelerate launch --num_processes 2 train.py \\
  --model_name_or_path gpt2 --per_device_train_batch_size $BATCH
torchrun --nproc_per_node 2 train.py --data /path/to/yours
torchrun --master_port=<your_port> train.py --model_name_or_path gpt2
```

Then run this file with torchrun, for example.

    python train.py --model_name_or_path gpt2
"""
TRAINER = '''"""Trains.

torchrun --nproc_per_node 4 train.py --model_name_or_path gpt2
accelerate is what most people start it with: torchrun works too.
"""
from transformers import HfArgumentParser, Trainer, TrainingArguments

arguments, = HfArgumentParser(TrainingArguments).parse_args_into_dataclasses()
'''
AXOLOTL = """\
base_model: gpt2
datasets:
  - path: tatsu-lab/alpaca
    type: alpaca
micro_batch_size: 1
sequence_len: 512
learning_rate: 1e-4
"""


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    folder = tmp_path / "clone"
    (folder / "configs").mkdir(parents=True)
    (folder / "README.md").write_text(README)
    (folder / "train.py").write_text(TRAINER)
    (folder / "configs" / "lora.yaml").write_text(AXOLOTL)
    (folder / "task.yaml").write_text(
        "resources: {accelerators: H100:8}\nrun: |\n  cd configs\n  axolotl train lora.yaml\n"
    )
    (folder / "job.slurm").write_text("#!/bin/bash\ncd configs\nsrun axolotl train lora.yaml\n")
    return folder


def test_launches_stand_in_documents_docstrings_jobs_and_configs(clone):
    found = {(launch.where, launch.argv[0], launch.folder.name) for launch in launches_of(clone)}

    assert found == {
        ("README.md:5", "accelerate", "clone"),
        ("README.md:13", "python", "clone"),
        ("train.py:3", "torchrun", "clone"),
        ("configs/lora.yaml:1", "axolotl", "clone"),
        ("job.slurm:3", "srun", "configs"),
        ("task.yaml:4", "axolotl", "configs"),
    }


def test_each_is_checked_where_its_files_are_and_counted(clone):
    table = Table()
    for answered in answers_to(launches_of(clone), "h100-sxm-80"):
        table.add(answered)

    text = "\n".join(table.lines())
    assert sum(counts.total() for counts in table.outcomes.values()) == 6
    assert table.crashed == []
    assert "exit 2" not in table.outcomes["axolotl"] and "NOTHING IS NAMED" not in text
    assert "together" in text


def test_a_launch_is_started_where_the_files_are_that_it_or_its_config_names(
    tmp_path: Path,
) -> None:
    inside = tmp_path / "clone" / "vendor" / "trainer"
    (inside / "examples").mkdir(parents=True)
    (inside / "examples" / "README.md").write_text(
        "```bash\nllamafactory-cli train examples/lora.yaml\n```\n"
    )
    (inside / "examples" / "ds.json").write_text("{}")
    (inside / "examples" / "lora.yaml").write_text(
        "stage: sft\nmodel_name_or_path: gpt2\ndo_train: true\ndeepspeed: examples/ds.json\n"
    )

    launches = list(launches_of(tmp_path / "clone"))

    assert len(launches) == 2
    assert {launch.folder for launch in launches} == {inside}
