"""What the callback and the context manager measure, write down and say."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
import tiny
import torch
from kept_records import read_records

import preflight
from preflight.embedded import measurement as measurement_module
from preflight.embedded.counters import CpuCounters, CudaCounters
from preflight.embedded.run_lines import apart_by, still_to_come

MIB = 2**20


@pytest.fixture(autouse=True)
def records(tmp_path, monkeypatch):
    """A folder of records of this test, which is also its working folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PREFLIGHT_RECORDS", str(tmp_path / "records"))
    for name in ("PREFLIGHT", "RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "records"


def train(model, num_steps: int = 3, **options) -> preflight.measure:
    """Run a plain loop under `measure`."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    with preflight.measure(model, optimizer=optimizer, **options) as run:
        for _ in range(num_steps):
            ids = torch.zeros(2, tiny.LENGTH, dtype=torch.long)
            model(input_ids=ids, labels=ids).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        with run.phase("save"):
            model.state_dict()
    return run


def test_the_counters_of_a_cpu_count_every_storage_once_until_it_dies():
    counters = CpuCounters()
    counters.start([])
    first = torch.zeros(1000, 1000)
    view = first[10:20].reshape(-1)
    alive = counters.take()["allocated"]
    second = first + 1
    del first, view
    both = counters.take()["allocated"]
    after = counters.take()["allocated"]
    blocks = counters.largest_blocks(3, {second.untyped_storage().data_ptr(): "the second"})
    counters.stop()

    assert alive == 4_000_000 and both == 8_000_000 and after == 4_000_000
    assert blocks == [(4_000_000, "the second")]
    assert counters.take() == {"allocated": 0}


def test_a_device_of_a_cpu_ends_where_it_is_said_to_end():
    counters = CpuCounters(limit_bytes=5_000_000)
    counters.start([])
    try:
        held = torch.zeros(1000, 1000)
        with pytest.raises(torch.OutOfMemoryError, match="4,000,000 of 5,000,000 are in use"):
            held + 1
    finally:
        counters.stop()


def test_a_plain_loop_leaves_a_record_with_every_phase_and_says_a_line(records):
    model, said = tiny.model(), io.StringIO()
    weights = 4 * sum(p.numel() for p in model.parameters())
    record = train(model, report_to=said).record
    kept = read_records(str(records))
    lines = [json.loads(line) for line in next(records.glob("*.jsonl")).read_text().splitlines()]

    assert record is not None and record.outcome == "done" and record.num_steps == 3
    assert set(record.phases) == {
        *("between", "forward", "backward", "optimizer_step", "second_step", "save")
    }
    allocated = {phase: peaks["allocated"] for phase, peaks in record.phases.items()}
    # Weights, then gradients, then two moments: each is alive from its phase on.
    assert allocated["forward"] > weights and allocated["backward"] > 2 * weights
    assert 4 * weights <= allocated["optimizer_step"] < 6 * weights
    assert allocated["second_step"] > allocated["backward"] + weights
    assert record.peak("allocated") == allocated["second_step"] and record.peak("device") is None
    assert record.host_peak_bytes > 50 * MIB
    assert (record.plan["micro_batch_size"], record.plan["seq_len"]) == (2, tiny.LENGTH)
    assert record.versions["torch"] == torch.__version__ and record.device["name"] == "cpu"
    assert kept.records == (record,) and [line["run_id"] for line in lines] == [record.run_id] * 2
    live, summary = said.getvalue().splitlines()
    assert live.startswith("preflight: after 2 steps: predicted ")
    assert summary.startswith("preflight: predicted ")
    assert "of live tensors in second step (" in said.getvalue()
    # The formula is CUDA's; on a CPU a tiny model is within a quarter of it.
    predicted = record.predicted_peak("allocated")
    assert predicted is not None and abs(predicted / allocated["second_step"] - 1) < 0.25


def test_the_load_phase_is_measured_where_the_model_is_made_inside():
    with preflight.measure(report_to=io.StringIO()) as run:
        model = tiny.model()
        run.watch(model)
        model(input_ids=torch.zeros(1, 8, dtype=torch.long))
    record = run.record

    assert record is not None and record.phases["load"]["allocated"] >= 4 * sum(
        p.numel() for p in model.parameters()
    )
    with (
        pytest.raises(ValueError, match="evaluation, save"),
        preflight.measure(model, report_to=io.StringIO()) as run,
        run.phase("evaluate"),
    ):
        pass


def trainer(tmp_path, callback, **more):
    from transformers import Trainer

    return Trainer(
        model=tiny.model(),
        args=tiny.arguments(tmp_path / "out", max_steps=3, **more),
        train_dataset=tiny.rows(),
        eval_dataset=tiny.rows(4),
        callbacks=[callback],
    )


def held_beside(num_bytes: int, **options) -> tuple[list[str], preflight.measure]:
    """Return what was said before the third step of a loop that holds something of its own, and the run."""
    said, model = io.StringIO(), tiny.model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    with preflight.measure(model, optimizer=optimizer, report_to=said, **options) as run:
        beside = torch.zeros(num_bytes, dtype=torch.uint8)
        for _ in range(2):
            ids = torch.zeros(2, tiny.LENGTH, dtype=torch.long)
            model(input_ids=ids, labels=ids).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        lines = said.getvalue().splitlines()
        del beside
    return lines, run


def test_after_two_steps_a_line_says_what_is_furthest_from_its_prediction():
    (plain,), run = held_beside(0)
    (with_more,), more = held_beside(400_000)
    record = run.record

    assert record is not None and more.record is not None
    apart = apart_by(record, "allocated")
    furthest = max(apart, key=lambda name: abs(apart[name]))
    assert f"furthest off is {furthest.replace('_', ' ')}, " in plain and "(" in plain
    # What is held all along is more in every phase, by itself.
    for phase, off in apart_by(more.record, "allocated").items():
        assert off == apart[phase] + 400_000
    assert "more than predicted, as is every phase" in with_more


def test_a_run_that_came_nearer_to_the_card_says_so_while_it_runs():
    (roomy,), before = held_beside(400_000, cpu_limit_bytes=5_000_000)
    assert before.record is not None
    peak = before.record.peak("allocated")
    assert peak is not None
    (near,), run = held_beside(400_000, cpu_limit_bytes=int(peak / 0.96))
    record = run.record

    assert record is not None and "nearer to the card" not in roomy
    assert near.endswith(" are taken, nearer to the card than predicted")
    # A checkpoint that was predicted to fill the card will not find what the steps took beyond theirs.
    saving = {**record.predicted, "save": {"allocated": 1_000_000}}
    coming = replace(record, predicted=saving)
    assert still_to_come(coming).endswith(": it may not fit") and "save may take" in still_to_come(
        coming
    )
    assert "may not fit" not in still_to_come(record)


def test_a_trainer_leaves_the_same_record_through_its_callback(records, tmp_path):
    said = io.StringIO()
    callback = preflight.PreflightCallback(report_to=said)
    steps = {"eval_strategy": "steps", "eval_steps": 3, "save_strategy": "steps", "save_steps": 3}
    trained = trainer(tmp_path, callback, **steps)
    trained.train()
    record, loop = callback.record, train(tiny.model(), report_to=io.StringIO()).record

    assert record is not None and loop is not None and record.outcome == "done"
    assert set(record.phases) == {*loop.phases, "evaluation"}
    for phase in ("forward", "backward", "second_step"):
        ours, theirs = record.phases[phase]["allocated"], loop.phases[phase]["allocated"]
        # The loop holds its outputs and has no mask; everything else is the same training.
        assert abs(ours / theirs - 1) < 0.1, (phase, ours, theirs)
    assert record.plan["trainer"] == "transformers" and record.plan["optimizer"]
    assert said.getvalue().count("preflight: predicted ") == 1
    assert said.getvalue().count("preflight: after 2 steps: ") == 1
    assert len(read_records(str(records)).records) == 2
    assert not trained.model._forward_hooks and not trained.model._forward_pre_hooks


def test_out_of_memory_in_a_trainer_ends_with_the_report_and_the_same_exception(tmp_path):
    said = io.StringIO()
    callback = preflight.PreflightCallback(report_to=said, cpu_limit_bytes=450_000)
    with pytest.raises(torch.OutOfMemoryError, match="450,000 are in use"):
        trainer(tmp_path, callback).train()
    text, record = said.getvalue(), callback.record

    assert record is not None and (record.outcome, record.failed_phase) == ("oom", "forward")
    assert text.startswith("preflight: out of memory in forward after 0 whole steps, rank 0 of 1")
    assert "phase" in text and "predicted" in text and "failed here" in text
    assert "largest blocks in use:" in text and "model.embed_tokens.weight" in text
    assert "as predicted: does not fit. Peak " in text
    assert text.splitlines()[-1].startswith("next: ")
    assert record.error.endswith("Error") and "allocate" not in record.error
    # Nothing of ours is left behind.
    held = torch.zeros(10_000_000)
    assert held.sum() == 0


def test_out_of_memory_that_was_not_predicted_says_what_would_make_it_smaller():
    said = io.StringIO()
    with pytest.raises(torch.OutOfMemoryError):
        train(tiny.model(), report_to=said, cpu_limit_bytes=600_000, device="tiny:1.9")
    text = said.getvalue()

    assert "as predicted: fits. Peak " in text
    assert "it was predicted to fit; what would make it smaller:" in text
    assert "this makes it fit, and keeps the training as it is:" in text
    assert "activation_checkpointing = full" in text and "--allow" not in text
    assert text.splitlines()[-1].startswith("next: activation_checkpointing first (")


def test_any_other_exception_is_a_failed_run_and_none_of_ours_is_raised(records, monkeypatch):
    model, said = tiny.model(), io.StringIO()
    with pytest.raises(KeyError), preflight.measure(model, report_to=said) as run:
        raise KeyError("lost")
    failed = run.record
    monkeypatch.setattr(measurement_module, "live_plan", lambda *a, **k: 1 / 0)
    record = train(model, report_to=said).record

    assert failed is not None and (failed.outcome, failed.error) == ("failed", "KeyError")
    assert record is not None and record.predicted == {} and record.phases["forward"]
    assert "preflight: no prediction: division by zero" in said.getvalue()


def test_a_step_asks_cuda_for_nothing_but_its_own_counters():
    """A stand-in writes down what is asked of torch.cuda, and when."""
    asked: list[str] = []

    def answer(name: str, value: object):
        def call(*args: object) -> object:
            asked.append(name)
            return value

        return call

    properties = SimpleNamespace(name="NVIDIA H100 80GB HBM3", total_memory=80 * 2**30)
    cuda = SimpleNamespace(
        max_memory_allocated=answer("allocated", 10 * MIB),
        max_memory_reserved=answer("reserved", 16 * MIB),
        reset_peak_memory_stats=answer("reset", None),
        memory_reserved=answer("reserved now", 16 * MIB),
        mem_get_info=answer("driver", (79 * 2**30, 80 * 2**30)),
        get_device_properties=answer("device", properties),
        current_device=answer("current", 0),
    )
    counters = CudaCounters()
    counters._cuda = cuda
    model = torch.nn.Linear(4, 4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    held = measurement_module.Measurement(report_to=io.StringIO(), device="h100-sxm-80")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(measurement_module, "counters_for", lambda *_: counters)
        held.start(model, optimizer)
    in_steps: list[str] = []
    for step in range(4):
        asked.clear()
        loss = model(torch.ones(2, 4)).sum()
        loss.backward()
        in_steps += asked
        asked.clear()
        optimizer.step()
        # Behind the first two steps the driver is asked once each, and never again.
        assert asked.count("driver") == (step < 2)
    held.finish()

    assert set(in_steps) == {"allocated", "reserved", "reset"}
    assert held.record is not None
    assert held.record.outside_bytes == 2**30 - 16 * MIB
    assert held.record.phases["forward"] == {
        "allocated": 10 * MIB,
        "reserved": 16 * MIB,
        "device": 2**30,
    }


LOOP = """\
import sys, torch, preflight
model = torch.nn.Linear(64, 64)
optimizer = torch.optim.AdamW(model.parameters())
with preflight.measure(model, optimizer=optimizer, micro_batch_size=2, seq_len=1) as run:
    for step in range(int(sys.argv[1])):
        model(torch.ones(2, 64)).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        print("step", step, flush=True)
print("trained", run.record.outcome, flush=True)
"""


def test_a_training_that_is_killed_keeps_every_earlier_record_and_its_own_first_steps(
    records, tmp_path
):
    earlier = train(tiny.model(), report_to=io.StringIO()).record
    process = subprocess.Popen(
        [sys.executable, "-c", LOOP, "1000000"],
        env=tiny.environment(tmp_path),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line == "step 2\n":
            break
    process.send_signal(signal.SIGKILL)
    process.communicate()
    kept = {record.run_id: record for record in read_records(str(records)).records}

    assert earlier is not None and kept.pop(earlier.run_id) == earlier
    (killed,) = kept.values()
    assert killed.outcome == "running" and killed.num_steps == 2
    assert killed.phases["optimizer_step"]["allocated"] > 4 * 4160


def test_a_full_disk_costs_the_record_and_not_the_run(records, tmp_path):
    def limited() -> None:
        import resource

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64))

    done = subprocess.run(
        [sys.executable, "-c", LOOP, "3"],
        env=tiny.environment(tmp_path, PYTHONDONTWRITEBYTECODE="1"),
        capture_output=True,
        text=True,
        preexec_fn=limited,
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("trained done\n")
    assert "preflight: not kept: " in done.stderr and "Traceback" not in done.stderr
    assert os.path.isdir(records)


def test_the_largest_blocks_of_a_gpu_come_from_the_allocators_snapshot():
    """The layout is that of torch.cuda.memory_snapshot (torch 2.13, torch/cuda/memory.py)."""
    frames = [
        {"filename": "x.cpp", "line": 1, "name": "f"},
        {"filename": "net.py", "line": 7, "name": "forward"},
    ]
    blocks = [
        {"size": 2 * MIB, "state": "active_allocated"},
        {"size": 8 * MIB, "state": "inactive"},
        {"size": 4 * MIB, "state": "active_allocated", "frames": frames},
        {"size": 1 * MIB, "state": "active_allocated"},
    ]
    counters = CudaCounters()
    counters._cuda = SimpleNamespace(memory_snapshot=lambda: [{"address": 1000, "blocks": blocks}])

    assert counters.largest_blocks(2, {1000: "lm_head.weight"}) == [
        (4 * MIB, "made at net.py:7 in forward"),
        (2 * MIB, "lm_head.weight"),
    ]


def test_a_callback_that_is_added_later_still_sees_memory_run_out(tmp_path):
    from transformers import Trainer

    said = io.StringIO()
    callback = preflight.PreflightCallback(report_to=said, cpu_limit_bytes=450_000)
    trained = Trainer(
        model=tiny.model(), args=tiny.arguments(tmp_path / "out"), train_dataset=tiny.rows()
    )
    trained.add_callback(callback)
    with pytest.raises(torch.OutOfMemoryError):
        trained.train()

    assert callback.record is not None and callback.record.outcome == "oom"
    assert said.getvalue().count("preflight: out of memory in forward") == 1


def test_what_cannot_be_counted_is_told_and_trained(monkeypatch):
    said = io.StringIO()
    monkeypatch.setattr(measurement_module, "counters_for", lambda *_: 1 / 0)
    run = train(tiny.model(), report_to=said)

    assert run.record is None
    assert (
        said.getvalue() == "preflight: nothing is measured: ZeroDivisionError: division by zero\n"
    )


def test_every_argument_phase_and_field_is_on_the_page():
    import inspect
    from dataclasses import fields

    from preflight.embedded.prediction import MOMENTS
    from preflight.records.run_record import RunRecord

    page = (tiny.ROOT / "docs" / "embedding.md").read_text()
    arguments = {*inspect.signature(preflight.guard).parameters}
    arguments |= {*inspect.signature(preflight.measure).parameters}
    words = {*arguments, *MOMENTS, *(f.name for f in fields(RunRecord))}

    assert not [word for word in sorted(words) if word not in page]
