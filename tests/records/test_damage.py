"""Damaged records and corrections: each is named and passed over, and nothing else is lost by it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import in_process
import pytest
from toy import launch, make

from preflight.records.run_record import DONE, RunRecord, record_from_dict

GOOD = RunRecord(
    run_id="good",
    rank=0,
    world_size=1,
    host="here",
    started="2026-11-25T10:00:00Z",
    outcome=DONE,
    device={"name": "NVIDIA H100 80GB HBM3", "kind": "cuda", "capacity_bytes": 2**36},
    phases={"forward": {"allocated": 100, "reserved": 120}},
    predicted={"forward": {"allocated": 110, "reserved": 120}},
    predicted_runtime={"CUDA context": 2**29},
    outside_bytes=2**29,
    plan={"model": "toy", "engine": "ddp", "micro_batch_size": 1, "seq_len": 8},
    versions={"torch": "2.11.0"},
)
ODD = (
    None,
    True,
    -1,
    3,
    2.5,
    1e308,
    float("nan"),
    "0x10",
    "x",
    [],
    ["x"],
    {},
    {"x": "y"},
    {"x": {"y": None}},
)
CORRECTION = {
    "device": "H100",
    "num_runs": 6,
    "context_bytes": 2**29,
    "num_context_runs": 6,
    "nccl_factor": 1.5,
    "num_nccl_runs": 6,
    "allocator_factor": 1.1,
    "num_allocator_runs": 6,
}


def preflight(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "preflight", *args],
        cwd=folder,
        env={**os.environ, "PREFLIGHT_RECORDS": str(folder / "records")},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=60,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make(tmp_path)
    (tmp_path / "records").mkdir()
    return tmp_path


def test_a_record_with_a_wrong_type_anywhere_is_passed_over_and_the_others_are_shown(folder):
    lines = [json.dumps(GOOD.to_dict())]
    for name in GOOD.to_dict():
        lines += [
            json.dumps({**GOOD.to_dict(), "run_id": f"{name}-{i}", name: odd})
            for i, odd in enumerate(ODD)
        ]
    (folder / "records" / "runs-here.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "records" / "runs-there.jsonl").write_bytes(
        b'\xff\0{\n[1]\nnull\n{"schema": 1}\n' + b"[" * 100_000
    )
    history = preflight(folder, "history", "--last", "0")
    value = preflight(folder, "history", "--last", "0", "--format", "json")
    validated = preflight(folder, "validate", "--history")
    started = preflight(folder, "run", "--device", "tiny:0.25", "--", *launch(1))

    assert history.returncode == 0, history.stderr
    assert f"passed over {folder}/records/runs-here.jsonl:" in " ".join(history.stdout.split())
    runs = json.loads(value.stdout)["runs"]
    assert [run for run in runs if run[0]["run_id"] == "good"]
    assert json.loads(value.stdout)["num_unreadable"] > len(lines) / 2
    assert validated.returncode in (0, 2) and "bug" not in validated.stderr
    assert started.returncode == 7


@pytest.mark.parametrize("name", GOOD.to_dict())
def test_whatever_is_taken_as_a_record_is_of_the_right_types(name):
    """What is read is used by formulas: nothing may get by that they cannot take."""
    for odd in ODD:
        record = record_from_dict({**GOOD.to_dict(), name: odd})
        if record is not None:
            assert record.peak("allocated") is None or record.peak("allocated") >= 0
            assert isinstance(record.device_class, str) and isinstance(record.peak_phase, str)
            assert isinstance(record.plan.get("engine", ""), object)


@pytest.mark.parametrize("special", ["pipe", "endless", "folder"])
def test_a_history_that_is_no_file_is_named(special, folder):
    path = folder / "records" / "runs-here.jsonl"
    if special == "pipe":
        os.mkfifo(path)
    elif special == "endless":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    done = preflight(folder, "history")

    assert done.returncode == 0, done.stderr
    assert f"passed over {path}: " in " ".join(done.stdout.split())


def damaged() -> dict[str, object]:
    found: dict[str, object] = {
        f"{name} {odd!r}": {"H100": {**CORRECTION, name: odd}}
        for name in CORRECTION
        for odd in ("5", 1e308, float("nan"), -1, [], {}, True)
        if not (name == "device" and isinstance(odd, str))
    }
    return {
        **found,
        "no mapping": [],
        "entry": {"H100": 3},
        "missing": {"H100": {"device": "H100"}},
    }


@pytest.mark.parametrize("devices", damaged().values(), ids=damaged())
def test_a_damaged_correction_is_named_and_passed_over(devices, folder):
    path = folder / "records" / "correction.json"
    path.write_text(json.dumps({"schema": 1, "devices": devices}))
    # The toy's device has no runtime to correct; a real card has.
    words, records = ("--device", "h100-sxm-80", "--", *launch(1)), str(folder / "records")
    done = in_process.preflight(folder, "check", *words, PREFLIGHT_RECORDS=records)

    assert done.returncode in (0, 1), done.stderr
    said = " ".join(done.stdout.split())
    assert (
        f"{path} is passed over" in said or f"{path}: what it says of 'H100' is passed over" in said
    )


@pytest.mark.parametrize("devices", [[], {"H100": 3}, {"H100": {**CORRECTION, "nccl_factor": "5"}}])
def test_a_damaged_correction_stops_no_launch(devices, folder):
    path = folder / "records" / "correction.json"
    path.write_text(json.dumps({"schema": 1, "devices": devices}))
    done = preflight(folder, "run", "--device", "h100-sxm-80", "--", *launch(1))

    assert done.returncode == 7, done.stderr


@pytest.mark.parametrize(
    "special", ["pipe", "endless", "folder", "dangling", "text", "deep", "large"]
)
def test_what_is_no_correction_stops_nothing(special, folder):
    path = folder / "records" / "correction.json"
    if special == "pipe":
        os.mkfifo(path)
    elif special == "endless":
        path.symlink_to("/dev/zero")
    elif special == "folder":
        path.mkdir()
    elif special == "dangling":
        path.symlink_to("nowhere")
    elif special == "large":
        path.write_bytes(b"")
        os.truncate(path, 1 << 30)
    else:
        path.write_text("[" * 100_000 if special == "deep" else "no\0json")
    done = preflight(folder, "run", "--device", "h100-sxm-80", "--", *launch(1))

    assert done.returncode == 7, done.stderr
    assert special == "dangling" or f"{path} is passed over" in " ".join(done.stderr.split())


def test_one_damaged_card_takes_no_other_with_it(folder):
    devices = {
        "h100-sxm-80": {**CORRECTION, "context_bytes": 3 * 2**30},
        "a100": {**CORRECTION, "nccl_factor": "2"},
    }
    (folder / "records" / "correction.json").write_text(
        json.dumps({"schema": 1, "devices": devices})
    )
    done = preflight(folder, "check", "--device", "h100-sxm-80", "--", *launch(1))

    assert "context 3072 MiB (6 runs)" in done.stdout
    assert "what it says of 'a100' is passed over" in " ".join(done.stdout.split())


def test_a_folder_that_is_only_looked_at_is_not_written_into(folder, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    line = json.dumps(GOOD.to_dict()) + "\n"
    (other / "runs-here.jsonl").write_text(line)
    (other / "correction.json").write_text("theirs")
    done = preflight(folder, "history", "--folder", str(other))

    assert done.returncode == 0
    assert (other / "correction.json").read_text() == "theirs"
    assert sorted(os.listdir(other)) == ["correction.json", "runs-here.jsonl"]
