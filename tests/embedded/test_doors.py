"""The doors inside a process, each started for real: notebook_launcher, a Trainer under torchrun, a loop with accelerate."""

from __future__ import annotations

import sys

import pytest
import tiny
from kept_records import read_records
from ranks import free_port

ROOMY, SMALL = "tiny:1.9", "tiny:0.0005"

NOTEBOOK = """\
import sys
import preflight
import tiny

def train():
    import os, torch
    from accelerate import Accelerator
    accelerator = Accelerator(cpu=True)
    model = tiny.model()
    optimizer = torch.optim.AdamW(model.parameters())
    model, optimizer = accelerator.prepare(model, optimizer)
    with preflight.measure(model, optimizer=optimizer, accelerator=accelerator, device=sys.argv[1]):
        for _ in range(2):
            ids = torch.zeros(2, tiny.LENGTH, dtype=torch.long)
            accelerator.backward(model(input_ids=ids, labels=ids).loss)
            optimizer.step()
            optimizer.zero_grad()
    print("worker", os.environ["RANK"], accelerator.num_processes, flush=True)

if __name__ == "__main__":
    from accelerate import notebook_launcher

    try:
        preflight.guard(
            tiny.model(), num_processes=2, micro_batch_size=2, seq_len=32, device=sys.argv[1]
        )
    except preflight.LaunchRefused as refused:
        print(refused, file=sys.stderr)
        sys.exit(refused.exit_code)
    notebook_launcher(train, num_processes=2, use_port=sys.argv[2])
"""

TRAINER = """\
import sys
import preflight
import tiny
from transformers import Trainer

trainer = Trainer(model=tiny.model(), args=tiny.arguments("out"), train_dataset=tiny.rows())
preflight.guard(trainer=trainer, seq_len=tiny.LENGTH, device=sys.argv[1])
print("trains", flush=True)
trainer.train()
"""

LOOP = """\
import sys
import preflight
import tiny
import torch
from accelerate import Accelerator

accelerator = Accelerator(cpu=True)
model = tiny.model()
optimizer = torch.optim.AdamW(model.parameters())
given = {"micro_batch_size": 2, "seq_len": tiny.LENGTH}
try:
    preflight.guard(model, accelerator=accelerator, optimizer=optimizer, device=sys.argv[1], **given)
except preflight.LaunchRefused as refused:
    print(refused)
preflight.guard(model, accelerator=accelerator, optimizer=optimizer, device=sys.argv[2], **given)
model, optimizer = accelerator.prepare(model, optimizer)
with preflight.measure(model, optimizer=optimizer, accelerator=accelerator, device=sys.argv[2]):
    for _ in range(2):
        ids = torch.zeros(2, tiny.LENGTH, dtype=torch.long)
        accelerator.backward(model(input_ids=ids, labels=ids).loss)
        optimizer.step()
        optimizer.zero_grad()
print("trained", flush=True)
"""


SHARDED = """\
import preflight
import tiny
from transformers import Trainer

args = tiny.arguments("out", max_steps=3, use_cpu=False)  # use_cpu switches FSDP off
callback = preflight.PreflightCallback(device="tiny:1.9")
trainer = Trainer(model=tiny.model(), args=args, train_dataset=tiny.rows(), callbacks=[callback])
preflight.guard(trainer=trainer, seq_len=tiny.LENGTH, device="tiny:1.9")
trainer.train()
"""


@pytest.fixture
def place(tmp_path):
    (tmp_path / "notebook.py").write_text(NOTEBOOK)
    (tmp_path / "train_trainer.py").write_text(TRAINER)
    (tmp_path / "loop.py").write_text(LOOP)
    (tmp_path / "train_sharded.py").write_text(SHARDED)
    return tmp_path


def test_a_notebook_that_is_refused_starts_no_worker_and_one_that_fits_starts_both(place):
    notebook = [sys.executable, "notebook.py"]
    refused = tiny.start(place, [*notebook, SMALL, "0"])
    fits = tiny.start(place, [*notebook, ROOMY, str(free_port())], ACCELERATE_USE_CPU="yes")
    records = read_records(str(place / "records")).records

    assert refused.code == 78 and refused.stdout == "" and refused.left == []
    assert refused.stderr.count("preflight: does not fit. Peak ") == 1
    assert fits.code == 0, fits.stderr
    assert sorted(line for line in fits.stdout.splitlines() if line.startswith("worker")) == [
        "worker 0 2",
        "worker 1 2",
    ]
    assert {record.rank for record in records} == {0, 1}
    assert len({record.run_id for record in records}) == 1
    assert {record.plan["engine"] for record in records} == {"ddp"} and fits.left == []


def test_a_trainer_under_torchrun_is_refused_on_every_rank_and_nothing_is_left(place, forked):
    torchrun = [str(tiny.BIN / "torchrun"), "--nproc_per_node", "2", "train_trainer.py", SMALL]
    done = tiny.start(place, torchrun, PYTHONPATH=tiny.WORKER, **forked)

    assert done.code not in (0, 78) and done.left == [], done.stderr
    assert "trains" not in done.stdout
    assert "preflight.errors.LaunchRefused: preflight: does not fit. Peak " in done.stderr


def test_a_loop_with_accelerate_is_refused_before_prepare_and_measured_where_it_fits(place):
    done = tiny.start(place, [sys.executable, "loop.py", SMALL, ROOMY])
    (record,) = read_records(str(place / "records")).records

    assert done.code == 0 and done.stdout.endswith("trained\n"), done.stderr
    assert done.stdout.startswith("preflight: does not fit. Peak ")
    assert "preflight: fits. Peak " in done.stderr and "preflight: predicted " in done.stderr
    assert record.num_steps == 2 and record.plan["engine"] == "single"


def test_a_trainer_under_accelerate_is_seen_sharded_and_measured_per_rank(place, forked):
    """FSDP2 on two CPU ranks, by the patch of tests/launches that lets accelerate shard without a GPU."""
    config = tiny.ROOT / "tests" / "launches" / "configs" / "fsdp2.yaml"
    launch = [str(tiny.BIN / "accelerate"), "launch", "--config_file", str(config)]
    done = tiny.start(
        place,
        [*launch, "train_sharded.py"],
        PYTHONPATH=tiny.WORKER,
        PREFLIGHT_TEST_CPU_RANKS="1",
        PREFLIGHT_TEST_PROBE="",
        **forked,
    )
    first, second = read_records(str(place / "records")).records
    kept = ("engine", "shard_degree", "reshard_after_forward", "wrap_policy", "state_dict_type")
    whole = 4 * sum(p.numel() for p in tiny.model().parameters())

    assert done.code == 0 and done.left == [], done.stderr
    assert done.stderr.count("preflight: fits. Peak ") == 1
    assert first.run_id == second.run_id and {first.rank, second.rank} == {0, 1}
    assert [first.plan[name] for name in kept] == ["fsdp2", 2, True, "transformer", "sharded"]
    for record in (first, second):
        # Parameters and two moments of half the model, and no gradient any more.
        assert 1.5 * whole <= record.phases["optimizer_step"]["allocated"] < 2.5 * whole
        predicted, measured = record.predicted_peak("allocated"), record.peak("allocated")
        assert predicted is not None and measured is not None
        assert abs(predicted / measured - 1) < 0.25  # the formula is CUDA's
