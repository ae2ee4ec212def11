"""`[tool.preflight]`: found, checked as a whole, and weaker than what the launch says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from in_process import preflight
from tiny_llama import TINY_LLAMA

from preflight.errors import BadInput
from preflight.repository.settings import check_repository, find_repository

FILE = """\
device = "h100-sxm-80"
guard = "warn"
hooks = ["tools/hooks.py"]

[plan]
seq_len = 2048
optimizer = "adamw_torch"

[flags]
"--bs" = "micro_batch_size"
ctx-len = "seq_len"

[policy]
refuse = ["does_not_fit", "tight"]
ignore = ["PF104"]
"""


def written(folder: Path, text: str, name: str = "preflight.toml") -> Path:
    (folder / "tools").mkdir(exist_ok=True)
    (folder / "tools" / "hooks.py").write_text("")
    (folder / name).write_text(text)
    return folder


def test_every_key_is_read(tmp_path):
    repository = find_repository(str(written(tmp_path, FILE)))

    assert repository.device == "h100-sxm-80"
    assert repository.guard == "warn"
    assert repository.plan == {"seq_len": 2048, "optimizer": "adamw_torch"}
    assert repository.flags == {"bs": "micro_batch_size", "ctx_len": "seq_len"}
    assert repository.policy["ignore"] == ["PF104"]
    assert repository.hooks == (str(tmp_path / "tools" / "hooks.py"),)
    assert repository.place("plan", "seq_len").endswith("preflight.toml:6")


def test_it_is_found_above_the_folder_and_not_above_the_repository(tmp_path):
    written(tmp_path, FILE)
    inner = tmp_path / "repo" / "scripts"
    inner.mkdir(parents=True)

    assert find_repository(str(inner)).device == "h100-sxm-80"
    (tmp_path / "repo" / ".git").mkdir()
    assert find_repository(str(inner)).path == ""


def test_pyproject_has_it_in_a_table_and_may_have_none(tmp_path):
    text = '[project]\nname = "x"\n\n[tool.preflight]\ndevice = "t4-16"\n[tool.preflight.plan]\nseq_len = 128\n'
    (tmp_path / "pyproject.toml").write_text(text)
    repository = find_repository(str(tmp_path))

    assert repository.device == "t4-16"
    assert repository.place("plan", "seq_len").endswith("pyproject.toml:7")
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "x"\n')
    assert find_repository(str(tmp_path)).path == ""


def test_every_wrong_key_is_named_at_once_with_its_line():
    text = """\
devise = "t4-16"
guard = "always"
[plan]
seq_length = 5
micro_batch_size = 0
[flags]
bs = "batch"
[policy]
refuse = ["maybe"]
"""
    with pytest.raises(BadInput) as refused:
        check_repository(text, "preflight.toml")

    said = {p.where.rpartition(":")[2]: (p.message, p.fix) for p in refused.value.problems}
    assert said["1"] == ("there is no key 'devise' here", "did you mean device")
    assert said["2"][0].startswith("guard must be one of off, warn, enforce")
    assert said["4"][1] == "did you mean seq_len"
    assert said["5"][0].startswith("micro_batch_size must be a whole number")
    assert said["7"][0] == "a flag cannot stand for 'batch'"
    assert said["8"][0] == "refuse: there is no verdict 'maybe'"


def test_a_file_that_is_no_toml_is_refused():
    with pytest.raises(BadInput, match="not readable as TOML"):
        check_repository("a = [", "preflight.toml")


def test_a_launch_beats_the_file_and_the_file_beats_a_default(tmp_path):
    written(tmp_path, FILE)
    (tmp_path / "config.json").write_text(json.dumps(TINY_LLAMA))
    (tmp_path / "train.py").write_text("from transformers import Trainer, HfArgumentParser\n")
    launch = ["--", "accelerate", "launch", "--num_processes", "1", "train.py"]
    launch += ["--model_name_or_path", ".", "--per_device_train_batch_size", "2"]

    def plan(*words: str):
        done = preflight(tmp_path, "check", "--format", "json", *launch, *words)
        return json.loads(done.stdout)

    report = plan()
    assert report["plan"]["seq_len"] == 2048
    assert report["origins"]["seq_len"] == {"where": "preflight.toml:6", "assumed": False}
    assert report["plan"]["optimizer"] == "adamw_torch"
    assert report["device"]["key"] == "h100-sxm-80"
    report = plan("--optim", "adafactor")
    assert report["plan"]["optimizer"] == "adafactor"


def test_a_declared_flag_is_read_as_its_plan_field_and_written_again(tmp_path):
    written(tmp_path, FILE)
    (tmp_path / "config.json").write_text(json.dumps(TINY_LLAMA))
    (tmp_path / "train.py").write_text("import argparse\nfrom accelerate import Accelerator\n")
    launch = ["--", "accelerate", "launch", "--num_processes", "1", "train.py"]
    launch += ["--model", ".", "--bs", "8", "--ctx-len", "512"]

    done = preflight(tmp_path, "check", "--format", "json", *launch)
    report = json.loads(done.stdout)

    assert (report["plan"]["micro_batch_size"], report["plan"]["seq_len"]) == (8, 512)
    assert report["origins"]["micro_batch_size"] == {"where": "--bs", "assumed": False}
