"""examples/6-embedded: its own launch script, started for real."""

from __future__ import annotations

import shutil

import tiny
from kept_records import read_records

EXAMPLE = tiny.ROOT / "examples" / "6-embedded"


def test_its_launch_script_starts_the_rewritten_training_on_both_ranks(tmp_path, forked):
    place = shutil.copytree(EXAMPLE, tmp_path / "repository")
    done = tiny.start(place, ["./train.sh"], PYTHONPATH=tiny.WORKER, **forked)

    assert done.code == 0, done.stderr
    assert "preflight: does not fit as written, fits rewritten. Peak " in done.stderr
    assert "trained on 2 ranks, 4 x 1 sequences each, checkpointing on" in done.stdout
    assert done.left == []
    first, second = read_records(str(place / "records")).records
    # Both ranks measured one run, and the line after it is rank 0's.
    assert first.run_id == second.run_id and {first.rank, second.rank} == {0, 1}
    assert first.plan["activation_checkpointing"] == "full" and first.plan["engine"] == "ddp"
    assert done.stderr.count("preflight: predicted ") == 1
    assert "; rank 0 of 2" in done.stderr


def test_its_launch_script_starts_nothing_where_nothing_fits(tmp_path):
    place = shutil.copytree(EXAMPLE, tmp_path / "repository")
    done = tiny.start(place, ["./train.sh", "--device", "tiny:0.02"])

    assert done.code == 78, done.stderr
    assert done.stderr.startswith("preflight: does not fit. Peak ")
    assert done.stdout == "" and done.left == [] and not (place / "out").exists()
