"""Every task of an array is judged: one line of a script may launch something else in each."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from preflight.cli import main
from preflight.slurm.array_tasks import array_tasks

HEAD = """\
#!/bin/bash
#SBATCH --nodes=2 --gpus-per-node=8 --ntasks-per-node=1 --array={array}
"""
TRAIN = """\
from dataclasses import dataclass
from transformers import AutoModelForCausalLM, HfArgumentParser, Trainer, TrainingArguments

@dataclass
class Model:
    model_name_or_path: str = "Qwen/Qwen2.5-0.5B"
    max_length: int = 512

model, args = HfArgumentParser((Model, TrainingArguments)).parse_args_into_dataclasses()
made = AutoModelForCausalLM.from_pretrained(model.model_name_or_path, torch_dtype="bfloat16")
rows = load().map(lambda row: tokenizer(row["text"], truncation=True, max_length=model.max_length))
Trainer(model=made, args=args, train_dataset=rows).train()
"""
MODELS = "MODELS=(Qwen/Qwen2.5-0.5B Qwen/Qwen2.5-1.5B meta-llama/Llama-3.1-405B)\n"
LINE = (
    "srun torchrun --nnodes 2 --nproc_per_node 8 --rdzv_endpoint $(hostname):29500 train.py"
    " --output_dir out/$SLURM_ARRAY_TASK_ID --seed $SLURM_ARRAY_TASK_ID --bf16"
)
OF_MODELS = f"{MODELS}{LINE} --model_name_or_path ${{MODELS[$SLURM_ARRAY_TASK_ID]}}\n"
WRITES = (
    "cat > run-$SLURM_ARRAY_TASK_ID.json <<END\n"
    '{"output_dir": "out", "bf16": true, "max_length": $((256 * (1 + SLURM_ARRAY_TASK_ID)))}\nEND\n'
    "srun torchrun --nnodes 2 --nproc_per_node 8 --rdzv_endpoint $(hostname):29500 train.py run-$SLURM_ARRAY_TASK_ID.json\n"
)


@pytest.fixture
def audited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    (tmp_path / "train.py").write_text(TRAIN)
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.chdir(tmp_path)

    def of(array: str, text: str):
        Path("job.sh").write_text(HEAD.format(array=array) + text)
        words = ["slurm", "audit", "job.sh", "--device", "h100-sxm-80", "--format", "json"]
        assert main(words) == 0
        return json.loads(capsys.readouterr().out)["jobs"][0]

    return of


@pytest.mark.parametrize(
    ("asked", "tasks"),
    [
        ("3", (3,)),
        ("0-3", (0, 1, 2, 3)),
        ("0-15:5,20%2", (0, 5, 10, 15, 20)),
        ("1,1,2", (1, 2)),
        ("a-b", ()),
    ],
)
def test_tasks_are_counted_as_slurm_counts_them(asked, tasks):
    assert array_tasks(asked) == tasks


def test_an_array_of_which_a_task_fits_nowhere_does_not_fit(audited):
    job = audited("0-2", OF_MODELS)

    fits = {each["array_task"]: each["fit"] for each in job["launches"]}
    assert fits == {None: "fits", 1: "fits", 2: "does not fit"}
    assert job["verdict"] == "does_not_fit"


@pytest.mark.parametrize("array", ["0-1", "0-63%4"])
def test_tasks_that_come_to_the_same_are_one_launch(array, audited):
    job = audited(array, f"{LINE}\n")

    assert [each["array_task"] for each in job["launches"]] == [None]
    assert job["verdict"] == "fits"


def test_a_task_reads_the_config_that_it_writes(audited):
    job = audited("0-2", WRITES)

    assert [each["fit"] for each in job["launches"]] == ["fits"] * 3


def test_tasks_that_were_not_read_leave_an_array_of_many_kinds_unknown(audited):
    job = audited("0-99", WRITES.replace("256", "8"))

    assert job["verdict"] == "unknown"
    assert "tasks of the array were not read" in job["launches"][-1]["problem"]


def test_one_line_of_many_launches_is_not_rewritten(audited, capsys):
    audited("0-2", OF_MODELS)
    main(["sbatch", "--explain", "--device", "h100-sxm-80", "job.sh"])
    printed = capsys.readouterr()

    assert "array task 2" in printed.out + printed.err
    assert not Path(".preflight").exists()


def test_a_check_of_the_script_answers_for_every_task(audited, capsys):
    audited("0-2", OF_MODELS)
    main(["check", "--device", "h100-sxm-80", "--format", "json", "--", "sbatch", "job.sh"])
    found = json.loads(capsys.readouterr().out)["launches"]

    assert [each["report"]["verdict"] for each in found] == ["fits", "fits", "does_not_fit"]
    audited("0-7", f"{LINE}\n")
    main(["check", "--device", "h100-sxm-80", "--", "sbatch", "job.sh"])
    assert capsys.readouterr().out.count("fits. Peak") == 1


@pytest.mark.parametrize(
    ("array", "text", "unread"),
    [
        ("0-99", WRITES.replace("256", "8"), "of the 100 tasks of the array were not read"),
        ("0-1", WRITES.replace("run-$SLURM_ARRAY_TASK_ID", "run"), "run.json otherwise"),
    ],
)
def test_a_check_of_the_script_names_what_it_did_not_read(array, text, unread, audited, capsys):
    audited(array, text)
    main(["check", "--device", "h100-sxm-80", "--", "sbatch", "job.sh"])

    (line,) = [line for line in capsys.readouterr().out.splitlines() if unread in line]
    assert "not checked" in line


def test_a_job_has_the_libraries_that_its_programs_have_here(audited, capsys, monkeypatch):
    """`check -- sbatch` said that nobody knows them, where the guard read them."""
    transformers = pytest.importorskip("transformers")
    audited("0", f"{LINE}\n")
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    main(["check", "--device", "h100-sxm-80", "--format", "json", "--", "sbatch", "job.sh"])
    plan = json.loads(capsys.readouterr().out)["plan"]

    assert plan["versions"]["transformers"] == transformers.__version__
