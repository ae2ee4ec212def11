"""A plan file: the same estimate, report and exit codes as for a launch."""

from __future__ import annotations

import json

import pytest
from in_process import preflight
from tiny_llama import TINY_LLAMA

from preflight.cli import main

PLAN = """\
model: tiny
load_dtype: fp32
micro_batch_size: 1
seq_len: 64
"""


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    (tmp_path / "config.json").write_text(json.dumps(TINY_LLAMA))

    def write(text: str) -> str:
        (tmp_path / "plan.yaml").write_text(text)
        return "plan.yaml"

    return write


WITH_CONFIG = ("--set", "model_config=config.json")


def test_a_bare_plan_is_estimated(files, capsys):
    code = main(["estimate", files(PLAN), *WITH_CONFIG, "--device", "tiny:0.5"])
    lines = capsys.readouterr().out.splitlines()

    assert code == 0
    assert lines[0].startswith("preflight: fits. Peak ")
    assert lines[-1] == "next: nothing; a plan file is estimated, not started"


def test_a_plan_may_bring_its_device_and_its_models(files, capsys):
    whole = {
        "plan": {"model": "tiny", "load_dtype": "fp32", "micro_batch_size": 1, "seq_len": 64},
        "device": "tiny:0.5",
        "models": {"tiny": TINY_LLAMA},
    }
    code = main(["estimate", files(json.dumps(whole)), "--format", "json"])
    report = json.loads(capsys.readouterr().out)

    assert code == 0
    assert report["verdict"] == "fits"
    assert report["device"]["capacity_bytes"] == 2**29
    assert report["plan"]["seq_len"] == 64


def test_a_plan_that_does_not_fit_exits_with_1(files, capsys):
    code = main(["estimate", files(PLAN), *WITH_CONFIG, "--device", "tiny:0.0005"])

    assert code == 1
    assert capsys.readouterr().out.startswith("preflight: does not fit. ")


def test_every_value_has_the_line_it_is_written_in(files, capsys):
    main(["estimate", files(PLAN), *WITH_CONFIG, "--device", "tiny:0.5", "--format", "json"])
    origins = json.loads(capsys.readouterr().out)["origins"]

    assert origins["seq_len"]["where"] == "plan.yaml:4"
    assert origins["model"]["where"] == "plan.yaml:1"


def test_every_problem_of_a_plan_is_told_at_once_with_its_line(files, capsys):
    text = "engine: fsdp3\nseq_length: 5\nmixed_precision: no\nadapter: {rnk: 3}\nworld_size: 0\n"
    code = main(["estimate", files(text), "--device", "tiny:0.5"])
    err = capsys.readouterr().err

    assert code == 2
    assert "there is no plan field 'seq_length'\n  at   plan.yaml:2" in err
    assert "there is no plan field adapter.rnk\n  at   plan.yaml:4\n  fix  did you mean rank" in err
    assert "engine must be one of" in err and "at   plan.yaml:1" in err
    assert "put quotes around 'no': YAML reads it as false" in err
    assert "world_size must be a whole number from 1, not 0" in err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("plan: {}\nplans: 3\n", "there is no key 'plans' beside plan"),
        ("plan: 5\n", "plan must be a mapping of plan fields"),
        ("plan: {}\ndevice: 5\n", "device must be a key of the GPU table"),
        ("a: b: c\n", "a `key:` stands where none can be"),
        ("seq_len: 1\nseq_len: 2\n", "seq_len is given twice, on lines 1 and 2"),
    ],
)
def test_a_malformed_plan_file_is_bad_input(files, capsys, text, message):
    code = main(["estimate", files(text)])
    err = capsys.readouterr().err

    assert code == 2
    assert message in err
    assert "plan.yaml" in err


def test_a_sharded_engine_without_a_degree_shards_over_all_ranks_and_says_so(tmp_path):
    """An engine that shares nothing is not what its name says."""
    (tmp_path / "plan.yaml").write_text(
        "model: meta-llama/Llama-3.1-8B\nengine: fsdp2\nworld_size: 8\nmixed_precision: bf16\n"
        "micro_batch_size: 1\nseq_len: 512\n"
    )
    done = preflight(tmp_path, "estimate", "plan.yaml", "--device", "h100-sxm-80")

    assert "defaults of plan files: activation_checkpointing none, " in done.stdout
    assert "shard_degree 8" in done.stdout


def test_a_shard_degree_that_does_not_divide_the_ranks_is_refused(tmp_path):
    (tmp_path / "plan.yaml").write_text("engine: fsdp2\nworld_size: 8\nshard_degree: 3\n")
    done = preflight(tmp_path, "estimate", "plan.yaml")

    assert done.returncode == 2
    assert "8 ranks cannot be cut into groups of 3" in done.stderr
