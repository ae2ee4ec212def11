"""What a site's own runs correct: runtime terms, by medians, from five runs on; and nothing else, ever."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from subprocess import CompletedProcess

import in_process
import pytest
from json_schemas import problems
from kept_records import finished_runs, read_records

import preflight
from preflight.formulas.outside_torch import NCCL_FIRST_BYTES
from preflight.memory import Level
from preflight.records.found_corrections import MIN_RUNS, corrections_of
from preflight.records.run_index import renew_corrections
from preflight.records.run_record import DONE, RunRecord
from preflight.records.run_store import save
from preflight.units import GIB, MIB

H100 = {"name": "NVIDIA H100 80GB HBM3", "kind": "cuda", "capacity_bytes": int(79.19 * GIB)}
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


def run(
    number: int, outside_mib: int, loss_gib: float = 0.0, ranks: int = 1, **more: object
) -> RunRecord:
    """Return a finished run; predicted are 500 MiB of context, 688 of NCCL and 2 GiB lost by the allocator."""
    runtime = {"CUDA context": 500 * MIB}
    if ranks > 1:
        runtime["NCCL buffers"] = 688 * MIB
    record = RunRecord(
        run_id=f"run-{number}",
        rank=0,
        world_size=ranks,
        host="here",
        started=f"2026-11-25T10:00:{number:02}Z",
        outcome=DONE,
        num_steps=3,
        device=H100,
        phases={
            "second_step": {"allocated": 20 * GIB, "reserved": int((20 + loss_gib) * GIB)},
            "forward": {"allocated": 10 * GIB, "reserved": 12 * GIB},
        },
        outside_bytes=outside_mib * MIB,
        predicted={"second_step": {"allocated": 21 * GIB, "reserved": 23 * GIB}},
        predicted_runtime=runtime,
        plan=PLAN,
        verdict="fits",
    )
    return replace(record, **more)


@pytest.fixture
def site(tmp_path, monkeypatch):
    """An own folder of records, and a folder to check in."""
    monkeypatch.setenv("PREFLIGHT_RECORDS", str(tmp_path / "records"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "records"


def check(**device: str):
    return preflight.check(preflight.LaunchPlan(**PLAN), device=device.get("device", "h100-sxm-80"))


def test_a_context_is_the_median_of_five_runs_and_nothing_of_four():
    four = [run(n, 430 + n) for n in range(4)]
    five = [*four, run(4, 434)]

    assert corrections_of(finished_runs(four)) == {}
    correction = corrections_of(finished_runs(five))["h100-sxm-80"]
    assert correction.context_bytes == 432 * MIB and correction.num_context_runs == 5
    assert correction.nccl_factor is None and correction.allocator_factor == 0.0 + 0.0


def test_outliers_do_not_move_a_median():
    """Two runs of five shared their device with somebody, or say nonsense: the answer stays within the others."""
    drawn = random.Random(0)
    honest = [run(n, 430 + n, 1.0) for n in range(3)]
    for _ in range(50):
        lies = [run(n, drawn.randrange(80_000), drawn.random() * 50) for n in (3, 4)]
        correction = corrections_of(finished_runs([*honest, *lies]))["h100-sxm-80"]

        assert 430 * MIB <= (correction.context_bytes or 0) <= 432 * MIB
        assert correction.allocator_factor == pytest.approx(0.5)


def test_what_context_leaves_of_several_ranks_is_nccl():
    runs = [run(n, 440) for n in range(5)] + [run(5 + n, 440 + 344, ranks=8) for n in range(5)]
    correction = corrections_of(finished_runs(runs))["h100-sxm-80"]

    assert correction.nccl_factor == pytest.approx(0.5) and correction.num_nccl_runs == 5
    assert correction.num_runs == 10


def test_a_run_counts_once_whatever_its_ranks_and_only_finished_runs_on_gpus_count():
    ranks = [replace(run(0, 400, ranks=8), rank=rank) for rank in range(8)]
    cpu = [replace(run(10 + n, 400), device={"name": "cpu", "kind": "cpu"}) for n in range(9)]
    failed = [replace(run(20 + n, 400), outcome="oom") for n in range(9)]

    assert corrections_of(finished_runs([*ranks, *cpu, *failed])) == {}


def test_a_check_uses_the_correction_says_so_and_leaves_model_terms_alone(site):
    before = check()
    records = [run(n, 430, 1.0) for n in range(5)] + [run(5 + n, 774, 1.0, 8) for n in range(6)]
    for record in records:
        save(record)
    renew_corrections()
    after, other = check(), check(device="a100-sxm-80")
    terms_before = {t.name: t for t in before.estimate.terms}
    changed = {
        t.name: t for t in after.estimate.terms if t.num_bytes != terms_before[t.name].num_bytes
    }

    assert changed.keys() >= {"CUDA context", "NCCL buffers", "cuBLAS workspaces"}
    assert all(t.level in (Level.RESERVED, Level.DEVICE) for t in changed.values())
    assert changed["CUDA context"].num_bytes == 430 * MIB
    assert changed["NCCL buffers"].num_bytes == NCCL_FIRST_BYTES // 2
    assert "runs of this site on h100-sxm-80" in changed["CUDA context"].source
    assert after.estimate.allocated_peak_bytes == before.estimate.allocated_peak_bytes
    assert after.estimate.host_peak_bytes_per_node == before.estimate.host_peak_bytes_per_node
    (note,) = after.notes
    assert note == (
        "measured on this site's h100-sxm-80: context 430 MiB (5 runs),"
        " NCCL x0.50 (6 runs), allocator's loss x0.50 (11 runs)"
    )
    assert after.to_dict()["site_correction"]["num_runs"] == 11
    assert "site_correction" not in other.to_dict() and other.notes == ()
    assert before.estimate.terms == replace(before, extra={}).estimate.terms


def test_a_file_that_is_no_correction_corrects_nothing(site):
    before = check()
    site.mkdir()
    for text in ("", "[]", '{"schema": 9, "devices": {}}', '{"schema": 1, "devices": {"h": {}}}'):
        (site / "correction.json").write_text(text)

        assert check().estimate == before.estimate


def preflight_command(*args: str) -> CompletedProcess[str]:
    return in_process.preflight(Path(), *args)


def test_history_lists_runs_and_what_they_correct_and_validate_reads_them(site):
    empty = preflight_command("history")
    none = preflight_command("validate", "--history")
    for number in range(MIN_RUNS):
        save(run(number, 430 + number))
    save(replace(run(8, 430), outcome="oom", failed_phase="backward"))
    save(replace(run(9, 430), outcome="running"))
    told = preflight_command("history")
    as_json = json.loads(preflight_command("history", "--last", "2", "--format", "json").stdout)
    validated = json.loads(preflight_command("validate", "--history", "--format", "json").stdout)

    assert empty.stdout.startswith("preflight: 0 runs in ") and empty.returncode == 0
    assert none.returncode == 2 and "no finished run is recorded" in none.stderr
    assert told.stdout.startswith("preflight: 7 runs in ")
    assert "meta-llama/Llama-3.1-8B, fsdp2 x 1" in told.stdout and "+5.0%" in told.stdout
    assert "out of memory in backward" in told.stdout and "never ended" in told.stdout
    assert "context 432 MiB (5 runs)" in told.stdout
    assert len(as_json["runs"]) == 2
    assert as_json["corrections"]["h100-sxm-80"]["context_bytes"] == 432 * MIB
    by_run = {r["id"]: r["outcome"] for r in validated["runs"]}
    assert list(by_run.values()) == ["value"] * 5 + ["oom"]
    counters = [r["counter"] for r in validated["runs"] if r["id"] == validated["runs"][0]["id"]]
    assert counters == ["allocated", "reserved"]
    assert validated["runs"][0]["measured_bytes"] == 20 * GIB
    assert validated["runs"][0]["other_counters"]["reserved"]["measured_bytes"] == 20 * GIB
    assert {r["group"] for r in validated["runs"]} == {"h100-sxm-80"}


def test_calibrate_says_that_there_is_no_gpu_and_rehearses_on_the_cpu(site, monkeypatch):
    import torch

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    if not torch.cuda.is_available():
        nothing = preflight_command("calibrate")
        assert nothing.returncode == 2 and "there is no GPU here" in nothing.stderr
        assert "nothing was run" in nothing.stderr and not site.exists()
    for number in range(MIN_RUNS):
        save(run(number, 430 + number))
    done = preflight_command("calibrate", "--rehearse", "--format", "json")
    told = json.loads(done.stdout)
    (record,) = (r for r in read_records().records if r.device["name"] == "cpu")

    assert done.returncode == 0, done.stderr
    assert problems("calibrate.json", told) == []
    assert told["num_trials"] == 1 and told["failed"] == []
    assert told["corrections"]["h100-sxm-80"]["context_bytes"] == 432 * MIB
    assert record.outcome == "done" and record.num_steps == 2
