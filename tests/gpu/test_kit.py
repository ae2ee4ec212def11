"""The kit of short trainings, rehearsed on a CPU with the smallest models, and its runs read by `validate`."""

from __future__ import annotations

import pytest

from preflight.formats.load import read_data_file
from preflight.models import describe
from preflight.plan_dict import plan_from_dict
from preflight.plugins import load_plugins
from preflight.studies.measured import read_runs
from preflight.studies.validate import validate_runs

from . import training
from .__main__ import main
from .cases import cases
from .training import DevicePeak

CASES = {case.name: case for case in cases()}


def test_a_rehearsed_training_is_a_measured_run_that_its_estimate_matches(tmp_path):
    path = tmp_path / "runs.yaml"
    names = ["llama-lora-checkpointed"]

    assert main(["--device", "cpu", "--only", *names, "--out", str(path)]) == 0
    runs = read_runs(read_data_file(str(path)))
    validation = validate_runs(runs, load_plugins(str(tmp_path)))

    assert [run.id for run in runs] == [f"kit-{name}" for name in names]
    assert not any(run.is_scored for run in runs)
    for v in validation.runs:
        assert abs(v.error) < 0.02, v.run.id


def test_there_are_some_forty_cases_of_every_kind_that_is_asked_for():
    kinds = {
        "adapters": {case.adapter for case in CASES.values()},
        "attention": {case.attention for case in CASES.values()},
        "losses": {case.loss for case in CASES.values()},
        "quantization": {case.quantization for case in CASES.values()},
        "generation": {case.generates for case in CASES.values()},
        "segments": {case.expandable_segments for case in CASES.values()},
    }

    assert 38 <= len(CASES) <= 48
    assert all(len(values) >= 2 for values in kinds.values()), kinds
    assert len({case.optimizer for case in CASES.values()}) >= 5
    assert len({case.model for case in CASES.values()}) >= 9


@pytest.mark.parametrize("is_rehearsal", [False, True], ids=["gpu", "cpu"])
@pytest.mark.parametrize("name", CASES)
def test_a_case_has_a_plan_that_preflight_reads_and_a_model_that_it_knows(name, is_rehearsal):
    case = CASES[name]
    config = case.config(is_rehearsal)
    plan = plan_from_dict(case.plan(is_rehearsal, {}), "kit")

    assert (plan.micro_batch_size, plan.seq_len) == case.shape(is_rehearsal)
    assert describe(config, name, "kit") is not None


def test_a_name_that_no_case_has_is_said(capsys):
    assert main(["--only", "llama-huge", "--device", "cpu"]) == 2
    assert "no case is named llama-huge" in capsys.readouterr().out


def test_without_a_gpu_the_kit_says_how_it_is_rehearsed(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))

    assert main(["--only", "llama-full"]) == 2
    said = capsys.readouterr().out
    assert "lists no GPU here" in said
    assert "--device cpu rehearses the kit" in said


def test_the_device_is_watched_until_it_is_told_to_stop(monkeypatch):
    looks = iter([5, 9, 7, *[3] * 10_000])
    monkeypatch.setattr(training, "in_use", lambda: next(looks))
    watch = DevicePeak()
    for _ in range(3):
        watch.look()

    assert watch.peak_bytes == 9
