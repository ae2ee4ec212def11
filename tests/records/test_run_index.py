"""The index of records: what it says is what a list of all records in memory would say, and it is small."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from dataclasses import replace

import pytest
from kept_records import finished_runs, read_lines, runs_of
from test_correction import run
from test_store import RECORD

from preflight.records import run_index
from preflight.records.found_corrections import corrections_of
from preflight.records.run_files import RecordFiles
from preflight.records.run_index import RunIndex, renew_corrections
from preflight.records.run_record import RUNNING


def write(folder, name: str, records) -> None:
    lines = (json.dumps(record.to_dict()) + "\n" for record in records)
    (folder / f"runs-{name}.jsonl").write_text("".join(lines))


@pytest.mark.parametrize("most_open", [100_000, 2])
@pytest.mark.parametrize("seed", range(10))
def test_runs_and_corrections_are_those_of_all_records_in_memory(
    seed, most_open, tmp_path, monkeypatch
):
    """Ranks of several hosts, finished and not, in any order of lines: the last line of a rank counts."""
    monkeypatch.setattr(run_index, "MOST_OPEN", most_open)
    drawn = random.Random(seed)
    files: dict[str, list] = {"a": [], "b": []}
    for number in range(12):
        ranks = drawn.choice((1, 1, 2))
        for rank in range(ranks):
            record = replace(
                run(number, drawn.randrange(300, 900), drawn.random(), ranks), rank=rank
            )
            if drawn.random() < 0.2:
                record = replace(record, outcome=drawn.choice(("oom", "running")))
            file = drawn.choice(list(files.values()))
            file.append(replace(record, outcome=RUNNING, num_steps=0))
            file.append(record)
    for name, records in files.items():
        # A later line of the same rank stays the later one.
        order = sorted(range(len(records)), key=lambda at: drawn.random())
        ends = {(r.run_id, r.rank): at for at, r in enumerate(records)}
        first = [records[at] for at in order if at not in ends.values()]
        write(tmp_path, name, [*first, *(records[at] for at in order if at in ends.values())])
    everything = [r for name in sorted(files) for r in read(tmp_path, name)]
    latest = {(r.run_id, r.rank): r for r in everything}
    ordered = sorted(latest.values(), key=lambda r: (r.started, r.run_id, r.rank))
    expected = runs_of(ordered)
    with RecordFiles(str(tmp_path)) as opened:
        index = RunIndex(opened)
        shown, newest = list(index.runs()), list(index.runs(5))
        corrections = corrections_of(index.finished())

    assert shown == expected and len(index) == len(expected) == 12
    assert newest == expected[-5:]
    assert corrections == corrections_of(finished_runs(ordered))


def read(folder, name: str):
    return read_lines(str(folder / f"runs-{name}.jsonl"))


MEASURE = """\
import resource, sys
from preflight import cli
code = cli.main(["history", *sys.argv[1:]])
print(code, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)
"""


def test_a_record_takes_a_few_hundred_bytes_of_memory_and_not_thousands(tmp_path):
    """The most memory of a history of 12,000 runs against one of 2,000, and no run is lost on the way."""
    peaks = {}
    for number in (2_000, 12_000):
        folder = tmp_path / str(number)
        folder.mkdir()
        with open(folder / "runs-here.jsonl", "w") as file:
            text = json.dumps(RECORD.to_dict())
            for at in range(number):
                file.write(text.replace('"run_id": "a"', f'"run_id": "r{at}"') + "\n")
        words = (sys.executable, "-c", MEASURE, "--folder", str(folder))
        done = subprocess.run(words, capture_output=True, text=True, env=dict(os.environ))
        *_, code, peak = done.stderr.split()  # after lines of progress, where the machine is busy
        peaks[number] = int(peak) * 1024
        assert code == "0" and f"preflight: {number} runs" in done.stdout

    assert (peaks[12_000] - peaks[2_000]) / 10_000 < 600


def test_all_runs_are_printed_as_they_are_read_again(tmp_path):
    write(tmp_path, "here", (replace(RECORD, run_id=f"r{at:04}") for at in range(2_500)))
    words = (sys.executable, "-m", "preflight", "history", "--folder", str(tmp_path), "--last", "0")
    text = subprocess.run(words, capture_output=True, text=True).stdout
    value = json.loads(
        subprocess.run([*words, "--format", "json"], capture_output=True, text=True).stdout
    )

    assert text.count("H100") == 2_500 and text.count("predicted  measured") == 3
    assert [ranks[0]["run_id"] for ranks in value["runs"]] == [f"r{at:04}" for at in range(2_500)]
    assert (
        json.dumps(value, indent=2) + "\n"
        == subprocess.run([*words, "--format", "json"], capture_output=True, text=True).stdout
    )


def test_the_end_of_a_training_does_not_read_gigabytes_and_leaves_what_was_worked_out(tmp_path):
    write(tmp_path, "here", (run(number, 430) for number in range(6)))
    whole = renew_corrections(str(tmp_path))
    kept = (tmp_path / "correction.json").read_text()
    (tmp_path / "correction.json").write_text(kept + " ")
    skipped = renew_corrections(str(tmp_path), most_bytes=100)

    assert whole["h100-sxm-80"].num_context_runs == 6 and skipped == {}
    assert (tmp_path / "correction.json").read_text() == kept + " "


def test_a_site_of_more_hosts_than_a_process_may_have_files_is_read(tmp_path):
    for host in range(300):
        write(tmp_path, f"h{host:03}", [replace(RECORD, run_id=f"r{host:03}", host=f"h{host:03}")])
    code = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))\n" + MEASURE
    words = (
        sys.executable,
        "-c",
        code,
        "--folder",
        str(tmp_path),
        "--last",
        "0",
        "--format",
        "json",
    )
    done = subprocess.run(words, capture_output=True, text=True)
    value = json.loads(done.stdout)

    assert len(value["runs"]) == 300 and value["num_unreadable"] == 0, done.stderr


def test_one_of_many_files_that_was_replaced_meanwhile_shows_nothing_of_another(
    tmp_path, monkeypatch
):
    monkeypatch.setattr("preflight.records.run_files.MOST_OPEN_FILES", 1)
    for name in "ab":
        write(tmp_path, name, [replace(RECORD, run_id=name)])
    with RecordFiles(str(tmp_path)) as files:
        index = RunIndex(files)
        write(tmp_path, "new", [replace(RECORD, run_id="c")])
        (tmp_path / "runs-new.jsonl").rename(tmp_path / "runs-b.jsonl")
        shown = [record.run_id for ranks in index.runs() for record in ranks]

    assert shown == ["a"]
