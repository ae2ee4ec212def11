"""The records of runs: nothing that was said to be kept is ever lost, whoever is killed and whatever is full."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import kept_records
import tiny
from kept_records import read_lines, read_records

from preflight.records.run_record import DONE, RUNNING, RunRecord, record_from_dict
from preflight.records.run_store import host_name, save

RECORD = RunRecord(
    run_id="a",
    rank=0,
    world_size=1,
    host="here",
    started="2026-11-25T10:00:00Z",
    outcome=DONE,
    device={"name": "H100", "kind": "cuda", "capacity_bytes": 2**36},
    phases={"forward": {"allocated": 100, "reserved": 120}, "backward": {"allocated": 90}},
)
HELPERS = ":".join(
    str(Path(module).parent) for module in (__file__, tiny.__file__, kept_records.__file__)
)

WRITER = """\
import sys
from dataclasses import replace
sys.path[:0] = sys.argv[1].split(":")
from test_store import RECORD
from preflight.records.run_store import save
name, first, last = sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
print("ready", flush=True)
for number in range(first, last):
    wrong = save(replace(RECORD, run_id=f"{name}-{number}"), sys.argv[2])
    print(wrong or number, flush=True)
"""


def writer(folder, name: str, first: int, last: int, **options) -> subprocess.Popen[str]:
    argv = [sys.executable, "-c", WRITER, HELPERS, str(folder)]
    return subprocess.Popen(
        [*argv, name, str(first), str(last)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def lines_of(folder) -> Path:
    return folder / f"runs-{host_name()}.jsonl"


def store_of_before(folder, *records: RunRecord) -> Path:
    """Write an SQLite store as preflight did before it kept lines only."""
    path = folder / f"runs-{host_name()}.sqlite"
    store = sqlite3.connect(path)
    store.execute("PRAGMA journal_mode=WAL")
    store.execute(
        "CREATE TABLE runs (run_id TEXT NOT NULL, rank INTEGER NOT NULL, started TEXT NOT NULL,"
        " outcome TEXT NOT NULL, device TEXT NOT NULL, record TEXT NOT NULL,"
        " PRIMARY KEY (run_id, rank))"
    )
    for r in records:
        row = (r.run_id, r.rank, r.started, r.outcome, r.device_class, json.dumps(r.to_dict()))
        store.execute("INSERT INTO runs VALUES (?, ?, ?, ?, ?, ?)", row)
    store.commit()
    store.close()
    return path


def test_a_record_is_read_back_as_it_was_written(tmp_path):
    assert save(RECORD, str(tmp_path)) == []
    assert read_records(str(tmp_path)) == ((RECORD,), ())
    assert record_from_dict(json.loads(json.dumps(RECORD.to_dict()))) == RECORD
    assert RECORD.peak("allocated") == 100 and RECORD.peak_phase == "forward"
    assert RECORD.peak("device") is None


def test_the_last_line_of_a_rank_of_a_run_is_its_record(tmp_path):
    running = replace(RECORD, outcome=RUNNING)
    other = replace(RECORD, rank=1, world_size=2)
    save(running, str(tmp_path))
    only = read_records(str(tmp_path)).records
    save(other, str(tmp_path))
    save(RECORD, str(tmp_path))

    assert only == (running,)
    assert read_records(str(tmp_path)).records == (RECORD, other)
    assert read_lines(str(lines_of(tmp_path))) == [running, other, RECORD]


def test_killed_at_any_moment_a_writer_loses_nothing_that_it_had_written(tmp_path):
    """Forty writers, each killed after another number of records, somewhere inside the next one."""
    promised: set[str] = set()
    for number in range(40):
        process = writer(tmp_path, f"w{number}", 0, 10**6)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        seen = [process.stdout.readline() for _ in range(number % 4)]
        for _ in range(number * 997):
            pass  # a part of the next record, a little more each time
        process.send_signal(signal.SIGKILL)
        rest, _ = process.communicate()
        promised |= {
            f"w{number}-{line.strip()}"
            for line in [*seen, *rest.splitlines()]
            if line.strip().isdigit()
        }
    kept, unreadable = read_records(str(tmp_path))

    assert len(promised) >= 20
    assert promised <= {record.run_id for record in kept}
    assert len(unreadable) <= 40  # at most the line that each was in


def test_eight_ranks_that_write_at_once_all_get_in(tmp_path):
    processes = [writer(tmp_path, f"rank{rank}", 0, 25) for rank in range(8)]
    said = [process.communicate(timeout=300) for process in processes]
    records, unreadable = read_records(str(tmp_path))
    lines = read_lines(str(lines_of(tmp_path)))

    assert all(err == "" and out.split()[-1] == "24" for out, err in said), said
    assert "[" not in "".join(out for out, _ in said)  # nobody was told that something went wrong
    assert len(records) == len(lines) == 200 and unreadable == () and None not in lines


def test_a_full_disk_is_told_and_loses_no_record_that_was_there(tmp_path):
    """RLIMIT_FSIZE stands for the disk: beyond it a write fails, as on a full one."""
    import resource

    for number in range(20):
        save(replace(RECORD, run_id=f"old-{number}"), str(tmp_path))
    size = lines_of(tmp_path).stat().st_size

    def limited() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # what Python does when it starts
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, size + 100))

    process = writer(tmp_path, "late", 0, 3, preexec_fn=limited)
    out, err = process.communicate(timeout=300)
    kept = {record.run_id for record in read_records(str(tmp_path)).records}

    assert process.returncode == 0 and err == "", err
    assert "late-0" not in kept and out.count("[") == 3, out
    assert kept >= {f"old-{number}" for number in range(20)}
    save(replace(RECORD, run_id="after"), str(tmp_path))
    records, unreadable = read_records(str(tmp_path))
    assert "after" in {record.run_id for record in records}
    assert unreadable == (f"{lines_of(tmp_path)}:21: no record",)


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_text("")

    assert save(RECORD, str(tmp_path / "file" / "records")) != []
    assert read_records(str(tmp_path / "nowhere")) == ((), ())


def test_lines_of_other_hosts_are_read_and_what_is_no_record_is_named(tmp_path):
    theirs = replace(RECORD, run_id="theirs", host="there")
    line = json.dumps(theirs.to_dict())
    (tmp_path / "runs-there.jsonl").write_text(f'{line}\n{line[:50]}\n{{"schema": 7}}\n[]\n')
    (tmp_path / "runs-there.sqlite").write_bytes(os.urandom(100))
    save(RECORD, str(tmp_path))
    records, unreadable = read_records(str(tmp_path))

    assert {record.run_id for record in records} == {"a", "theirs"}
    assert unreadable == tuple(f"{tmp_path}/runs-there.jsonl:{n}: no record" for n in (2, 3, 4))


def test_a_store_of_before_is_read_and_nothing_is_written_to_it(tmp_path):
    """What only the store has is kept: unfinished runs, and lines that a full disk cost."""
    unfinished = replace(RECORD, run_id="killed", outcome=RUNNING)
    store = store_of_before(tmp_path, replace(RECORD, outcome=RUNNING), unfinished)
    before = store.read_bytes()
    save(RECORD, str(tmp_path))

    assert read_records(str(tmp_path)) == ((RECORD, unfinished), ())
    assert store.read_bytes() == before


def test_a_store_that_is_no_database_is_named_and_the_lines_are_still_read(tmp_path):
    store = tmp_path / f"runs-{host_name()}.sqlite"
    store.write_bytes(b"not a database, but long enough to be looked at" * 10)
    before = store.read_bytes()
    save(RECORD, str(tmp_path))

    assert read_records(str(tmp_path)) == ((RECORD,), (f"{store}: file is not a database",))
    assert store.read_bytes() == before


def test_a_writer_that_holds_the_lock_and_never_goes_on_keeps_no_run_waiting(tmp_path, monkeypatch):
    save(RECORD, str(tmp_path))
    monkeypatch.setattr("preflight.records.run_store.LOCK_TIMEOUT_S", 0.05)
    with open(lines_of(tmp_path)) as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        wrong = save(replace(RECORD, run_id="b"), str(tmp_path))

    assert wrong == [] and len(read_records(str(tmp_path)).records) == 2
