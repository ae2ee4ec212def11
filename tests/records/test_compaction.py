"""A compaction leaves out what was replaced and nothing else, whoever writes meanwhile and whenever it is killed."""

from __future__ import annotations

import fcntl
import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from json_schemas import problems
from kept_records import read_records
from test_store import RECORD, lines_of, writer

from preflight.records import compaction, run_store
from preflight.records.compaction import compact, own_files
from preflight.records.run_record import RUNNING
from preflight.records.run_store import save

COMPACT = """\
import sys
from preflight.records.compaction import compact, own_files
print("ready", flush=True)
for path in own_files(sys.argv[1]):
    compact(path)
"""


def line(run_id: str, rank: int = 0, **more: object) -> bytes:
    record = replace(RECORD, run_id=run_id, rank=rank, **more)
    return json.dumps(record.to_dict(), separators=(",", ":")).encode() + b"\n"


@pytest.mark.parametrize("seed", range(20))
def test_the_records_of_a_folder_are_the_same_after_it(seed, tmp_path):
    """Whatever lines there are: doubles, ranks, what is no record, and a last line without an end."""
    drawn = random.Random(seed)
    lines = []
    for _ in range(drawn.randrange(60)):
        name, rank = drawn.choice("abcdef"), drawn.randrange(3)
        steps = {"num_steps": drawn.randrange(9)}
        kinds = (
            lambda name=name, rank=rank, steps=steps: line(name, rank, outcome=RUNNING, **steps),
            lambda name=name, rank=rank, steps=steps: line(name, rank, **steps),
            lambda name=name: line(name)[: drawn.randrange(300)].strip(b"\n") + b"\n",
            lambda: b'{"schema": 7}\n',
            lambda: b"\n",
        )
        lines.append(drawn.choices(kinds, (6, 6, 1, 1, 1))[0]())
    end = drawn.choice((b"", b'{"schema": 1, "run', line("last")[:-1]))
    path = lines_of(tmp_path)
    path.write_bytes(b"".join(lines) + end)
    path.chmod(0o600)
    before = read_records(str(tmp_path))
    done = compact(str(path))
    after = read_records(str(tmp_path))
    left = path.read_bytes()

    assert {(r.run_id, r.rank): r for r in after.records} == {
        (r.run_id, r.rank): r for r in before.records
    }
    assert len(after.records) == len(before.records)
    assert len(after.unreadable) == len(before.unreadable)
    assert left.endswith(end) and path.stat().st_mode & 0o777 == 0o600
    assert done.num_bytes_before - done.num_bytes_after == len(b"".join(lines) + end) - len(left)
    assert compact(str(path)).num_lines_after == done.num_lines_after  # a second one finds nothing
    assert path.read_bytes() == left and os.listdir(tmp_path) == [path.name]


def test_what_is_written_meanwhile_is_kept(tmp_path):
    """Eight ranks write while the file is compacted again and again; each was told that its record is kept."""
    writers = [writer(tmp_path, f"w{number}", 0, 30) for number in range(8)]
    num_rounds = 0
    while any(process.poll() is None for process in writers):
        for path in own_files(str(tmp_path)):
            compact(path)
            num_rounds += 1
    said = [process.communicate(timeout=300) for process in writers]
    kept = {record.run_id for record in read_records(str(tmp_path)).records}

    assert all(err == "" and "[" not in out for out, err in said), said
    assert kept == {f"w{number}-{at}" for number in range(8) for at in range(30)}
    assert num_rounds > 3


def test_a_rank_that_waits_for_the_lock_writes_into_the_new_file(tmp_path):
    for _ in range(3):
        save(RECORD, str(tmp_path))
    path = lines_of(tmp_path)
    with open(path) as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        late = writer(tmp_path, "late", 0, 1)
        assert late.stdout is not None and late.stdout.readline() == "ready\n"
        time.sleep(0.2)  # it has the old file open by now, and waits
        path.rename(tmp_path / "old")
        path.write_bytes(line("a"))
    out, _ = late.communicate(timeout=60)

    assert out.split() == ["0"]
    assert [r.run_id for r in read_records(str(tmp_path)).records] == ["a", "late-0"]


def test_killed_at_any_moment_it_loses_nothing(tmp_path):
    text = b"".join(
        line(f"r{number}", outcome=RUNNING) + line(f"r{number}") for number in range(400)
    )
    path = lines_of(tmp_path)
    new = left_behind = 0
    for number in range(12):
        path.write_bytes(text)
        process = subprocess.Popen(
            [sys.executable, "-c", COMPACT, str(tmp_path)], stdout=subprocess.PIPE
        )
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        time.sleep(number * 0.006)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        now = path.read_bytes()
        new += now != text
        assert {r.run_id for r in read_records(str(tmp_path)).records} == {
            f"r{at}" for at in range(400)
        }
        drafts = [name for name in os.listdir(tmp_path) if name.endswith(".part")]
        left_behind += len(drafts)
        for name in drafts:
            (tmp_path / name).unlink()

    assert new < 12  # some were killed in time


def test_without_a_lock_nothing_is_replaced(tmp_path, monkeypatch):
    for _ in range(3):
        save(RECORD, str(tmp_path))
    path = lines_of(tmp_path)
    before = path.read_bytes()
    monkeypatch.setattr(run_store, "LOCK_TIMEOUT_S", 0.05)
    with open(path) as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(OSError, match="its lock is not to be had"):
            compact(str(path))

    assert path.read_bytes() == before and os.listdir(tmp_path) == [path.name]


def test_what_is_appended_without_the_lock_behind_our_back_is_kept(tmp_path, monkeypatch):
    """A writer that waited half a minute for the lock appends without it, to the file that it has open."""
    for _ in range(3):
        save(RECORD, str(tmp_path))
    path = lines_of(tmp_path)
    replaces = os.replace
    with open(path, "ab") as opened:

        def replace_late(draft: str, name: str) -> None:
            replaces(draft, name)
            opened.write(line("late"))
            opened.flush()

        monkeypatch.setattr(compaction.os, "replace", replace_late)
        compact(str(path))

    assert [r.run_id for r in read_records(str(tmp_path)).records] == ["a", "late"]


def preflight(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PREFLIGHT_RECORDS": str(folder)}
    words = [sys.executable, "-m", "preflight", "history", *args]
    return subprocess.run(words, env=env, capture_output=True, text=True)


def test_the_command_says_what_it_left_out_and_leaves_other_hosts_alone(tmp_path):
    whole = replace(RECORD, device={**RECORD.device, "counted_by": "torch"})
    for _ in range(3):
        save(whole, str(tmp_path))
    other = tmp_path / "runs-elsewhere.jsonl"
    other.write_bytes(line("b", outcome=RUNNING) + line("b", device=whole.device))
    done = preflight(tmp_path, "--compact")
    again = preflight(tmp_path, "--compact", "--format", "json")
    empty = preflight(tmp_path / "nowhere", "--compact")
    value = json.loads(again.stdout)

    assert "2 of 3 lines left out" in " ".join(done.stdout.split())
    assert "preflight: 2 runs in" in done.stdout
    assert other.read_bytes().count(b"\n") == 2
    assert problems("history.json", value) == []
    assert value["compacted"][0]["num_lines_after"] == 1
    assert "there is no file of yours from this host to compact" in empty.stdout
