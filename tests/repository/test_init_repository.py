"""`preflight init --repo`: what it reads of a repository, what it leaves commented, and what it never touches."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from in_process import preflight

from preflight.repository.settings import _READERS, check_repository

TRAIN = """\
import argparse
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

parser = argparse.ArgumentParser()
parser.add_argument("--bs", type=int, default=4)
parser.add_argument("--accumulate-for", type=int, default=1)
args = parser.parse_args()
options = TrainingArguments("out", per_device_train_batch_size=args.bs,
                            gradient_accumulation_steps=args.accumulate_for)
Trainer(AutoModelForCausalLM.from_pretrained("meta-llama/Llama-3.1-8B"), options).train()
"""
SLURM = """\
#!/bin/bash
#SBATCH --nodes=1
#SBATCH --gres=gpu:a100:4
STEPS=8
for seed in 1 2; do echo $seed; done
srun torchrun --nproc_per_node 4 \\
    train.py --bs 2 \\
    --accumulate-for $STEPS
"""


def repository(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_a_job_script_gives_flags_a_gpu_and_what_is_missing(tmp_path):
    repository(tmp_path, train_dot_py=TRAIN, jobs__run_dot_sbatch=SLURM)
    done = preflight(tmp_path, "init", "--repo")
    text = (tmp_path / "preflight.toml").read_text()

    assert (done.returncode, done.stdout.splitlines()[0]) == (
        0,
        "preflight: wrote ./preflight.toml from 1 launch",
    )
    assert check_repository((tmp_path / "preflight.toml").read_text(), "preflight.toml").flags == {
        "bs": "micro_batch_size",
        "accumulate_for": "gradient_accumulation_steps",
    }
    assert "#   jobs/run.sbatch:6  srun torchrun --nproc_per_node 4 train.py --bs 2" in text
    assert '# device = "a100-sxm-80"  # jobs/run.sbatch:3 asks for a100' in text
    assert "# seq_len = 4096  # no launch says it" in text
    assert '# model = "meta-llama/Llama-3.1-8B"  # said by jobs/run.sbatch:6 (train.py:10)' in text
    for line in text.splitlines():
        assert not line or line.startswith(("#", "[")) or "  # " in line, line


def test_readme_and_makefile_are_read_and_prose_is_not(tmp_path):
    readme = "Run `accelerate launch other.py`.\n\n```bash\n$ accelerate launch --num_processes 2 train.py\n```\n"
    make = "BS = 1\ntrain:\n\t@accelerate launch --num_processes 4 train.py --bs 1\n"
    repository(tmp_path, train_dot_py=TRAIN, README_dot_md=readme, Makefile=make)
    done = preflight(tmp_path, "init", "--repo", "--print", "--format", "json")
    told = json.loads(done.stdout)

    assert [launch["where"] for launch in told["launches"]] == ["Makefile:3", "README.md:4"]
    assert (
        "micro_batch_size = 1  # launches differ: 1 (Makefile:3), 4 (README.md:4)" in told["text"]
    )
    assert not (tmp_path / "preflight.toml").exists()


def test_a_launch_that_cannot_be_read_is_named(tmp_path):
    repository(tmp_path, run_dot_sh="accelerate launch --config_file gone.yaml train.py\n")
    done = preflight(tmp_path, "init", "--repo")

    assert done.returncode == 0
    assert "run.sh:1 was not read: the config file 'gone.yaml' does not exist" in done.stdout


def test_a_card_that_is_named_stands_in_the_file_by_its_key(tmp_path):
    done = preflight(tmp_path, "init", "--repo", "--device", "h100")

    assert done.returncode == 0
    assert 'device = "h100-sxm-80"' in (tmp_path / "preflight.toml").read_text().splitlines()


def test_an_empty_repository_gets_a_file_that_says_so(tmp_path):
    done = preflight(tmp_path, "init", "--repo")
    text = (tmp_path / "preflight.toml").read_text()

    assert done.returncode == 0
    assert "# Launches read: 0." in text
    assert '# model = "org/name"  # no launch was found' in text
    assert check_repository((tmp_path / "preflight.toml").read_text(), "preflight.toml").plan == {}


@pytest.mark.parametrize(
    ("name", "text"),
    [("preflight.toml", "device = 't4-16'\n"), ("pyproject.toml", "[tool.preflight]\n")],
)
def test_settings_that_are_there_are_kept(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    done = preflight(tmp_path, "init", "--repo")

    assert done.returncode == 2
    assert (tmp_path / name).read_text() == text
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_check_uses_what_was_written(tmp_path):
    repository(tmp_path, train_dot_py=TRAIN, run_dot_sh="torchrun train.py --bs 2\n")
    preflight(tmp_path, "init", "--repo")
    path = tmp_path / "preflight.toml"
    path.write_text(path.read_text().replace("# seq_len = 4096", "seq_len = 512"))
    done = preflight(tmp_path, "check", "--format", "json", "--", "torchrun", "train.py")

    assert json.loads(done.stdout)["plan"]["seq_len"] == 512


def test_the_page_has_every_key():
    page = (Path(__file__).parents[2] / "docs" / "repository.md").read_text()

    assert [key for key in _READERS if f"| `{key}` |" not in page] == []
