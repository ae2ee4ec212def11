"""The Python interface: the same answers as the command line, typed, and nothing heavy on import."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from toy import launch, make

import preflight

ROOT = Path(__file__).parent.parent
TWO_SAMPLES = "tiny:0.25"
"""256 MiB: two samples of the toy fit, three do not."""

PLAN = {
    "model": "meta-llama/Llama-3.1-8B",
    "engine": "fsdp2",
    "world_size": 8,
    "shard_degree": 8,
    "micro_batch_size": 1,
    "seq_len": 4096,
    "mixed_precision": "bf16",
    "activation_checkpointing": "full",
}


@pytest.fixture
def folder(tmp_path):
    return make(tmp_path)


def test_a_launch_that_fits_is_returned_as_given_and_the_report_is_one_line(folder):
    said = io.StringIO()
    argv = preflight.before_launch(launch(1), device=TWO_SAMPLES, cwd=folder, report_to=said)

    assert argv == launch(1)
    assert said.getvalue().startswith("preflight: fits. Peak 1")


@pytest.mark.parametrize(("times", "verdict"), [(1, "fits"), (2, "unknown")])
def test_a_script_is_checked_as_the_launch_that_it_starts_alone(folder, times, verdict):
    lines = [" ".join([*launch(1), "--seed", str(number)]) for number in range(times)]
    (Path(folder) / "train.sh").write_text("\n".join(lines) + "\n")
    report = preflight.check(["bash", "train.sh"], device=TWO_SAMPLES, cwd=folder)

    assert report.verdict.answer.value == verdict
    assert any("train.sh:1" in note for note in report.notes) is (times == 1)


def test_the_argv_of_a_rewritten_launch_starts_it_with_its_variables(folder):
    argv = preflight.before_launch(
        launch(4), device=TWO_SAMPLES, cwd=folder, report_to=io.StringIO()
    )
    done = subprocess.run(argv, cwd=folder, capture_output=True, text=True)
    worker = json.loads(done.stdout)

    assert done.returncode == 7
    assert worker["env"] == "rewritten"
    assert worker["argv"] != launch(4)[2:]


def test_a_refused_launch_raises_with_the_report(folder):
    with pytest.raises(preflight.LaunchRefused) as raised:
        preflight.before_launch(launch(4), device="tiny:0.05", cwd=folder)

    assert str(raised.value).startswith("preflight: does not fit. Peak ")
    assert raised.value.report.verdict.answer.value == "does_not_fit"
    assert raised.value.exit_code == 78
    assert isinstance(raised.value, preflight.PreflightError)


def test_a_policy_given_as_a_mapping_replaces_single_keys_of_the_repository(folder):
    (folder / "preflight.toml").write_text('[policy]\nrewrite = false\nignore = ["PF104"]\n')
    with pytest.raises(preflight.LaunchRefused):
        preflight.before_launch(launch(4), device=TWO_SAMPLES, cwd=folder)
    report = preflight.check(launch(4), device=TWO_SAMPLES, cwd=folder, policy={"rewrite": True})

    assert report.may_launch and report.applied


def test_off_returns_the_launch_unchecked_and_says_so(folder):
    said = io.StringIO()
    argv = preflight.before_launch(
        launch(4), device="tiny:0.05", cwd=folder, env={"PREFLIGHT": "off"}, report_to=said
    )

    assert argv == launch(4)
    assert "unchecked" in said.getvalue()


def test_what_cannot_be_checked_is_not_returned(folder):
    with pytest.raises(preflight.BadInput, match="does not exist"):
        preflight.before_launch(
            ["accelerate", "launch", "--config_file", "no.yaml", "t.py"], cwd=folder
        )
    with pytest.raises(TypeError, match="list of words"):
        preflight.before_launch("accelerate launch train.py", cwd=folder)


def test_a_plan_is_checked_and_estimated_as_a_plan_file_is(tmp_path):
    report = preflight.check(preflight.LaunchPlan(**PLAN), device="h100-sxm-80", cwd=tmp_path)
    estimate = preflight.estimate(PLAN, device="h100-sxm-80", cwd=tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "preflight", "estimate", "--format", "json", "plan.json"],
        input="",
        cwd=_with_file(tmp_path),
        capture_output=True,
        text=True,
    )
    by_command = json.loads(done.stdout)

    assert report.verdict.answer.value == by_command["verdict"] == "fits"
    assert estimate.device_peak_bytes == by_command["estimate"]["device_peak_bytes"]
    assert report.estimate is not None
    assert estimate.allocated_peak_bytes == report.estimate.allocated_peak_bytes


def _with_file(folder: Path) -> Path:
    (folder / "plan.json").write_text(json.dumps({"plan": PLAN, "device": "h100-sxm-80"}))
    return folder


def test_a_launch_of_an_unknown_model_is_unknown_and_an_estimate_of_it_is_refused(tmp_path):
    with pytest.raises(preflight.BadInput, match="not known here: model nobody/nothing"):
        preflight.estimate({**PLAN, "model": "nobody/nothing"}, cwd=tmp_path)


def test_importing_preflight_loads_no_other_module_of_ours_and_no_torch():
    code = (
        "import sys; before = set(sys.modules); import preflight;"
        "print(sorted(n for n in set(sys.modules) - before if not n.startswith('_')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)

    assert (
        set(eval(done.stdout))
        <= {"preflight", "preflight.version", "typing", "__future__"} | _of_typing()
    )


def _of_typing() -> set[str]:
    code = "import sys; before = set(sys.modules); import typing; print(sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    return set(eval(done.stdout))


def test_every_public_name_is_on_the_page():
    page = (ROOT / "docs" / "api.md").read_text()

    assert not [
        name
        for name in preflight.__all__
        if name != "__version__" and not re.search(rf"\b{name}\b", page)
    ]
    with pytest.raises(AttributeError, match="no attribute 'chek'"):
        _ = preflight.chek
