"""`preflight init --model`: what it writes fits, as the files say; it takes no more than is needed, and says why."""

from __future__ import annotations

import contextlib
import io
import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from said_versions import say_versions
from toy import preflight as in_terminal

from preflight.cli import main
from preflight.studies.template_files import TEMPLATES, template_text

ROOT = Path(__file__).parents[2]
TEMPLATE_FOLDER = ROOT / "templates"
LLAMA, QWEN = "meta-llama/Llama-3.1-8B", "Qwen/Qwen3-32B"


class Done(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        assert self.code in (0, 1), self.err
        return json.loads(self.out)


def preflight(*words: str) -> Done:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(list(words))
    return Done(code, out.getvalue(), err.getvalue())


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_COLOR", "1")
    return tmp_path


def init(model: str, gpu: str, number: int, *words: str) -> Done:
    asked = ("--model", model, "--gpu", gpu, "--num-gpus", str(number))
    return preflight("init", *asked, *words)


def check(device: str, *flags: str) -> dict[str, Any]:
    """Return the report of the launch in this folder, with flags behind it that win over its files."""
    line = next(
        line
        for line in Path("launch.sh").read_text().splitlines()
        if line.startswith("exec preflight run")
    )
    argv = line.partition(" -- ")[2].removesuffix(' "$@"').split()
    argv = [*argv, *flags]
    return preflight("check", "--format", "json", "--device", device, "--", *argv).json


CASES = [
    pytest.param(LLAMA, "h100-sxm-80", 8, "full", (), "fsdp2", "none", id="sharded"),
    pytest.param(LLAMA, "h100-sxm-80", 8, "lora", (), "ddp", "none", id="copied"),
    pytest.param("Qwen/Qwen2.5-7B", "rtx4090-24", 1, "qlora", (), "single", "none", id="alone"),
    pytest.param(
        LLAMA, "h100-sxm-80", 8, "full", ("--seq-len", "8192"), "fsdp2", "full", id="checkpointed"
    ),
    pytest.param(LLAMA, "a100-sxm-80", 8, "full", ("--engine", "zero3"), "zero3", "none", id="zero3"),
    pytest.param(LLAMA, "h100-sxm-80", 8, "lora", ("--engine", "zero2"), "zero2", "none", id="zero2"),
    pytest.param(QWEN, "l40s-48", 8, "qlora", ("--engine", "fsdp2", "--seq-len", "8192"), "fsdp2", "full", id="qlora"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("model", "gpu", "number", "method", "words", "engine", "checkpointing"), CASES
)
def test_what_is_written_fits_and_is_the_largest_micro_batch(
    model, gpu, number, method, words, engine, checkpointing
):
    told = init(model, gpu, number, "--method", method, *words, "--format", "json").json
    report = check(gpu)
    plan = report["plan"]
    size, steps = plan["micro_batch_size"], plan["gradient_accumulation_steps"]
    chosen = {name: choice["value"] for name, choice in told["chosen"].items()}
    doubled = check(
        gpu, f"--per_device_train_batch_size={2 * size}", f"--gradient_accumulation_steps={steps // 2}"
    )  # fmt: skip

    assert report["verdict"] == told["report"]["verdict"] == "fits"
    assert report["estimate"] == told["report"]["estimate"]
    assert [f for f in report["findings"] if f["severity"] == "error"] == []
    assert (plan["engine"], plan["activation_checkpointing"]) == (engine, checkpointing)
    assert (chosen["micro_batch_size"], chosen["gradient_accumulation_steps"]) == (size, steps)
    assert size * steps * number == 128
    assert doubled["verdict"] != "fits"
    for choice in told["chosen"].values():
        assert f"# {choice['reason']}\n" in "".join(told["files"].values())


def test_what_is_left_out_would_not_fit_and_the_reason_says_by_how_much():
    told = init(LLAMA, "h100-sxm-80", 8, "--seq-len", "8192", "--format", "json").json
    one = ("--per_device_train_batch_size=1", "--gradient_accumulation_steps=16")
    without = check("h100-sxm-80", "--gradient_checkpointing=false", *one)
    peak = without["estimate"]["device_peak_bytes"] / 2**30
    reason = told["chosen"]["activation_checkpointing"]["reason"]

    assert without["verdict"] != "fits"
    assert reason == f"without it the peak is {peak:.1f} of 79.1 GiB with one sequence"
    assert f"gradient_checkpointing: true  # {reason}" in told["files"]["training.yaml"]


@pytest.mark.parametrize(
    ("number", "size", "syncs"), [(24, 1, True), (64, 2, False)], ids=["reduced", "at-once"]
)
def test_what_keeps_whole_gradients_from_step_to_step_is_fitted_without(number, size, syncs):
    """A larger micro batch without accumulation fits where one sequence at a time does not, or each step reduces."""
    words = ("--slurm", "--seq-len", "2048", "--format", "json")
    told = init("meta-llama/Llama-3.1-70B", "h100-sxm-80", number, *words).json
    text = told["files"]["training.yaml"]

    assert told["report"]["verdict"] == "fits"
    assert told["report"]["plan"]["micro_batch_size"] == size
    assert told["report"]["plan"].get("sync_each_batch", False) is syncs
    assert ("sync_each_batch: true" in text) is syncs
    for choice in told["chosen"].values():
        assert f"# {choice['reason']}\n" in "".join(told["files"].values())


def test_a_global_batch_that_is_asked_for_is_kept():
    told = init(LLAMA, "h100-sxm-80", 8, "--global-batch-size", "24", "--format", "json").json
    plan = told["report"]["plan"]

    assert plan["micro_batch_size"] * plan["gradient_accumulation_steps"] * 8 == 24
    assert "24 sequences, as asked" in told["files"]["training.yaml"]
    refused = init(LLAMA, "h100-sxm-80", 8, "--global-batch-size", "20", "--output", "other")
    assert (refused.code, os.path.exists("other")) == (2, False)
    assert "a global batch of 20 cannot be shared by 8 ranks" in refused.err


@pytest.mark.parametrize(
    ("number", "words", "files"),
    [
        (8, (), ["launch.sh", "train.py", "training.yaml", "zero3.json"]),
        (8, ("--method", "lora"), ["launch.sh", "train.py", "training.yaml"]),
        (16, ("--slurm",), ["job.sbatch", "train.py", "training.yaml", "zero3.json"]),
    ],
    ids=["sharded", "copied", "nodes"],
)
def test_under_torchrun_the_arguments_name_deepspeeds_file(number, words, files):
    told = init(LLAMA, "h100-sxm-80", number, "--launcher", "torchrun", *words, "--format", "json")
    report = told.json["report"]
    engine = "zero3" if "zero3.json" in files else "ddp"
    refused = init(LLAMA, "h100-sxm-80", 8, "--launcher", "torchrun", "--engine", "fsdp2")

    assert sorted(os.listdir()) == files
    assert (report["verdict"], report["plan"]["engine"]) == ("fits", engine)
    assert report["plan"]["world_size"] == number
    assert "accelerate launch" not in "".join(told.json["files"].values())
    assert "its files cannot say fsdp2" in refused.err


@pytest.mark.parametrize("engine", ["fsdp2", "hsdp"])
def test_a_job_on_several_nodes_reads_back_as_the_plan(engine):
    words = ("--slurm", "--seq-len", "4096", "--engine", engine)
    told = init(LLAMA, "h100-sxm-80", 16, *words, "--format", "json").json
    plan = told["report"]["plan"]

    assert (plan["world_size"], plan["num_nodes"]) == (16, 2)
    assert plan["shard_degree"] == (8 if engine == "hsdp" else 16)
    assert sorted(os.listdir()) == ["accelerate.yaml", "job.sbatch", "train.py", "training.yaml"]
    assert told["report"]["verdict"] == "fits"


def test_where_nothing_fits_nothing_is_written_and_what_would_is_said():
    refused = init("Qwen/Qwen2.5-7B", "rtx4090-24", 1, "--output", "sft")

    assert refused.code == 2
    assert "does not fit 1 x rtx4090-24" in refused.err
    assert "`--method lora` fits" in refused.err
    assert "preflight size Qwen/Qwen2.5-7B --gpu rtx4090-24" in refused.err
    assert not os.path.exists("sft")


ALMOST = (
    *("init", "--model", "meta-llama/Llama-3.1-70B", "--gpu", "h100"),
    *("--num-gpus", "16", "--slurm", "--print"),
)


def test_what_is_tight_is_not_said_to_be_too_large():
    say_versions(Path())
    refused = preflight(*ALMOST)

    assert refused.code == 2
    assert "no more than tight on 16 x h100-sxm-80" in refused.err
    assert "does not fit" not in refused.err


def test_what_a_release_decides_is_not_said_to_be_too_large():
    Path("requirements.txt").write_text("accelerate>=0.33,<1.15\ntorch\ntransformers\ntrl\n")
    refused = preflight(*ALMOST)

    assert refused.code == 2
    assert "may fit and may not fit 16 x h100-sxm-80" in refused.err
    assert "of 79.1 GiB, by versions that nobody said" in refused.err


def test_no_file_is_overwritten_and_then_none_is_written():
    Path("train.py").write_text("mine")
    refused = init(LLAMA, "h100-sxm-80", 8)

    assert refused.code == 2
    assert "./train.py is there already" in refused.err
    assert os.listdir() == ["train.py"]
    assert Path("train.py").read_text() == "mine"


def test_a_model_folder_is_named_as_seen_from_the_files(tmp_path):
    (tmp_path / "model").mkdir()
    config = (ROOT / "examples" / "tiny-llama" / "config.json").read_text()
    (tmp_path / "model" / "config.json").write_text(config)
    told = init("model", "tiny:0.5", 2, "--output", "runs/one", "--format", "json").json

    assert "model_name_or_path: ../../model\n" in told["files"]["training.yaml"]
    assert "--device tiny:0.5 --" in told["files"]["launch.sh"]
    assert os.access("runs/one/launch.sh", os.X_OK)


def test_wrong_wishes_are_said_all_at_once():
    nothing = preflight("init", "--model", LLAMA)
    nodes = init(LLAMA, "h100-sxm-80", 16)
    unknown = init("nobody/nothing", "h100-sxm-80", 8)
    two = preflight("init", "--repo", "--list")

    assert "--gpu must be given" in nothing.err and "--num-gpus must be given" in nothing.err
    assert "2 nodes need somebody who starts them" in nodes.err
    assert "not known here: model nobody/nothing\n  at   --model" in unknown.err
    assert "--list and --repo are different things" in two.err
    assert {nothing.code, nodes.code, unknown.code, two.code} == {2}
    assert os.listdir() == []


def test_every_file_of_the_folder_is_a_template_and_has_its_row_in_the_docs():
    """But for the guard of a cluster, which `preflight slurm install` writes."""
    own = {
        path.relative_to(TEMPLATE_FOLDER).as_posix()
        for path in TEMPLATE_FOLDER.rglob("*")
        if path.is_file() and path.suffix not in (".lua", ".pyc") and path.name != "__init__.py"
    }
    listed = preflight("init", "--list", "--format", "json").json["templates"]
    page = (ROOT / "docs" / "templates.md").read_text()

    assert own == set(TEMPLATES) == {row["name"] for row in listed}
    for row in listed:
        assert f"| `{row['name']}` | {row['about']} |" in page
        assert row["name"] in preflight("init", "--list").out


def test_the_example_of_the_docs_is_what_the_command_prints(tmp_path):
    page = (ROOT / "docs" / "templates.md").read_text()
    command, _, printed = page.partition("$ preflight ")[2].partition("```")[0].partition("\n")
    done = in_terminal(tmp_path, *command.split())

    assert done.stdout == printed


def test_a_template_is_copied_once_and_never_over_a_file():
    name = "github/preflight.yml"
    done = preflight("init", "--template", name)
    again = preflight("init", "--template", name)
    printed = preflight("init", "--template", name, "--print")

    assert done.code == 0
    assert Path(".github/workflows/preflight.yml").read_text() == template_text(name)
    assert (again.code, printed.out) == (2, template_text(name))
    assert "there is no template 'plugin'" in preflight("init", "--template", "plugin").err
