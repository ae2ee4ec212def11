"""The records of runs: nothing that was said to be kept is ever lost, whoever is killed and whatever is full."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from dataclasses import replace

import tiny

from preflight.records.run_record import DONE, RUNNING, RunRecord, record_from_dict
from preflight.records.run_store import host_name, read_lines, read_records, save

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

WRITER = """\
import sys
from dataclasses import replace
sys.path.insert(0, sys.argv[1])
from test_store import RECORD
from preflight.records.run_store import save
name, first, last = sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
print("ready", flush=True)
for number in range(first, last):
    wrong = save(replace(RECORD, run_id=f"{name}-{number}"), sys.argv[2])
    print(wrong or number, flush=True)
"""


def writer(folder, name: str, first: int, last: int, **options) -> subprocess.Popen[str]:
    argv = [sys.executable, "-c", WRITER, str(tiny.ROOT / "tests" / "embedded"), str(folder)]
    return subprocess.Popen(
        [*argv, name, str(first), str(last)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def is_whole(folder) -> bool:
    with sqlite3.connect(folder / f"runs-{host_name()}.sqlite") as store:
        return store.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_record_is_read_back_as_it_was_written(tmp_path):
    assert save(RECORD, str(tmp_path)) == []
    assert read_records(str(tmp_path)) == ((RECORD,), 0)
    assert record_from_dict(json.loads(json.dumps(RECORD.to_dict()))) == RECORD
    assert RECORD.peak("allocated") == 100 and RECORD.peak_phase == "forward"
    assert RECORD.peak("device") is None


def test_a_run_that_never_ended_is_in_the_store_and_gets_a_line_only_when_it_does(tmp_path):
    running = replace(RECORD, outcome=RUNNING)
    save(running, str(tmp_path))
    only = read_records(str(tmp_path)).records
    lines = list(tmp_path.glob("*.jsonl"))
    save(RECORD, str(tmp_path))

    assert only == (running,) and lines == []
    assert read_records(str(tmp_path)).records == (RECORD,)


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
    in_store = sqlite3.connect(tmp_path / f"runs-{host_name()}.sqlite")
    stored = {row[0] for row in in_store.execute("SELECT run_id FROM runs")}
    in_store.close()

    assert len(promised) >= 20
    assert promised <= stored and promised <= {record.run_id for record in kept}
    assert is_whole(tmp_path)
    assert unreadable <= 40  # at most the line that each was in


def test_eight_ranks_that_write_at_once_all_get_in(tmp_path):
    processes = [writer(tmp_path, f"rank{rank}", 0, 25) for rank in range(8)]
    said = [process.communicate(timeout=300) for process in processes]
    records, unreadable = read_records(str(tmp_path))
    lines, torn = read_lines(str(tmp_path / f"runs-{host_name()}.jsonl"))

    assert all(err == "" and out.split()[-1] == "24" for out, err in said), said
    assert "[" not in "".join(out for out, _ in said)  # nobody was told that something went wrong
    assert len(records) == len(lines) == 200 and unreadable == torn == 0
    assert is_whole(tmp_path)


def test_a_full_disk_is_told_and_loses_no_record_that_was_there(tmp_path):
    """RLIMIT_FSIZE stands for the disk: beyond it a write fails, as on a full one."""
    import resource

    for number in range(20):
        save(replace(RECORD, run_id=f"old-{number}"), str(tmp_path))
    size = (tmp_path / f"runs-{host_name()}.jsonl").stat().st_size

    def limited() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # what Python does when it starts
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, size + 100))

    process = writer(tmp_path, "late", 0, 3, preexec_fn=limited)
    out, err = process.communicate(timeout=300)
    kept = {record.run_id for record in read_records(str(tmp_path)).records}

    assert process.returncode == 0 and err == "", err
    assert "late-0" not in kept and out.count("[") == 3, out
    assert kept >= {f"old-{number}" for number in range(20)}
    assert is_whole(tmp_path)
    save(replace(RECORD, run_id="after"), str(tmp_path))
    records, unreadable = read_records(str(tmp_path))
    assert "after" in {record.run_id for record in records} and unreadable <= 3


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_text("")

    assert save(RECORD, str(tmp_path / "file" / "records")) != []
    assert read_records(str(tmp_path / "nowhere")) == ((), 0)


def test_lines_of_other_hosts_are_read_and_what_is_no_record_is_counted(tmp_path):
    theirs = replace(RECORD, run_id="theirs", host="there")
    line = json.dumps(theirs.to_dict())
    (tmp_path / "runs-there.jsonl").write_text(f'{line}\n{line[:50]}\n{{"schema": 7}}\n[]\n')
    (tmp_path / "runs-there.sqlite").write_bytes(os.urandom(100))
    save(RECORD, str(tmp_path))
    records, unreadable = read_records(str(tmp_path))

    assert {record.run_id for record in records} == {"a", "theirs"}
    assert unreadable == 3


def test_a_store_that_is_no_database_is_told_and_the_lines_are_still_kept(tmp_path):
    store = tmp_path / f"runs-{host_name()}.sqlite"
    store.write_bytes(b"not a database, but long enough to be looked at" * 10)
    before = store.read_bytes()

    assert len(save(RECORD, str(tmp_path))) == 1
    assert read_records(str(tmp_path)).records == (RECORD,)
    assert store.read_bytes() == before
