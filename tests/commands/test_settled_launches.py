"""What is started is what was judged: twenty launches at once, files that change meanwhile, writers that were killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from toy import HOOKS, WORKER, preflight

EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "2-rewritten"
LAUNCHER = f"""\
#!{sys.executable}
import sys
config = sys.argv[sys.argv.index("--config_file") + 1]
open("started/" + sys.argv[sys.argv.index("--output_dir") + 1], "x").write(config + "\\n" + open(config).read())
"""
FLAGS = (
    *("--model_name_or_path", "meta-llama/Llama-3.1-8B", "--max_length", "16384", "--bf16", "True"),
    *("--per_device_train_batch_size", "1", "--gradient_accumulation_steps", "4", "--output_dir"),
)


def environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "PATH": f"{folder / 'bin'}:/usr/bin:/bin"}


@pytest.fixture
def configs(tmp_path: Path) -> Path:
    """A folder with five configs of one base name, and a launcher that writes down which it was given."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "started").mkdir()
    launcher = tmp_path / "bin" / "accelerate"
    launcher.write_text(LAUNCHER)
    launcher.chmod(0o755)
    (tmp_path / "train.py").write_bytes((EXAMPLE / "train.py").read_bytes())
    text = (EXAMPLE / "fsdp2.yaml").read_text()
    for number in range(5):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "fsdp2.yaml").write_text(f"# config {number}\n{text}")
    return tmp_path


def run(folder: Path, config: str, output: str) -> subprocess.Popen[str]:
    words = ["accelerate", "launch", "--config_file", config, "train.py", *FLAGS, output]
    return subprocess.Popen(
        [sys.executable, "-m", "preflight", "run", "--device", "h100-sxm-80", "--", *words],
        cwd=folder,
        env=environment(folder),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_twenty_launches_at_once_all_start_each_with_its_own_config(configs):
    """Five configs of one base name want one name in .preflight/: the next free one is taken."""
    started = [run(configs, f"{n % 5}/fsdp2.yaml", f"out-{n}") for n in range(20)]
    ends = [(one.communicate()[1], one.returncode) for one in started]

    assert [code for _, code in ends] == [0] * 20, [words for words, code in ends if code]
    for number in range(20):
        copy, comment, *lines = (configs / "started" / f"out-{number}").read_text().split("\n")
        assert copy.startswith(".preflight/fsdp2")
        assert comment == f"# config {number % 5}"
        assert any("fsdp_reshard_after_forward: true" in line for line in lines)
    copies = [name for name in os.listdir(configs / ".preflight") if name.endswith(".yaml")]
    assert len(copies) == 5
    assert not [name for name in os.listdir(configs / ".preflight") if name.endswith(".part")]


READS = HOOKS.replace('int(values["--micro"])', 'int(command.read_text("micro.txt"))')
CHANGES = """

@hookimpl
def preflight_reported(report):
    import os

    if {when}:
        with open("micro.txt", "w") as file:
            file.write({text})
"""


@pytest.fixture
def reading(tmp_path: Path) -> Path:
    (tmp_path / "worker.py").write_text(WORKER)
    (tmp_path / "micro.txt").write_text("1")
    return tmp_path


def toy_launch() -> list[str]:
    return [sys.executable, "worker.py", "--micro", "1", "--accumulate", "1", "--length", "32"]


def test_a_launch_whose_file_changed_after_it_was_read_is_judged_again(reading):
    changes = READS + CHANGES.format(when="report.plan.micro_batch_size == 1", text="'90000'")
    (reading / "preflight_hooks.py").write_text(changes)
    done = preflight(reading, "run", "--no-rewrite", "--device", "tiny:0.25", "--", *toy_launch())

    assert (done.returncode, done.stdout) == (78, "")
    assert "does not fit" in done.stderr


def test_before_launch_judges_again_too(reading):
    changes = READS + CHANGES.format(when="report.plan.micro_batch_size == 1", text="'90000'")
    (reading / "preflight_hooks.py").write_text(changes)
    code = (
        "import sys, preflight\n"
        "try:\n    preflight.before_launch(sys.argv[1:], device='tiny:0.25', policy={'rewrite': False})\n"
        "except preflight.LaunchRefused:\n    sys.exit(9)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *toy_launch()], cwd=reading, capture_output=True, text=True
    )

    assert done.returncode == 9, done.stderr


def test_a_file_that_never_stops_changing_starts_nothing_and_is_named(reading):
    changes = READS + CHANGES.format(
        when="True", text="'1' + ' ' * int.from_bytes(os.urandom(2), 'big')"
    )
    (reading / "preflight_hooks.py").write_text(changes)
    done = preflight(reading, "run", "--device", "tiny:0.25", "--", *toy_launch())

    assert (done.returncode, done.stdout) == (78, "")
    assert done.stderr.startswith(f"preflight: {reading}/micro.txt changes while it is judged")


def test_what_does_not_change_is_started_once_judged(reading):
    (reading / "preflight_hooks.py").write_text(READS)
    done = preflight(reading, "run", "--device", "tiny:0.25", "--", *toy_launch())

    assert done.returncode == 7
    assert done.stderr.count("preflight: fits") == 1


KILLED = """\
import os, sys, time
from preflight.whole_file import write_whole
def stop(draft, path):
    print(draft, flush=True)
    time.sleep(100)
write_whole(sys.argv[1], "never finished", give_name=stop)
"""


def test_the_draft_of_a_writer_that_was_killed_is_removed_by_the_next(configs):
    folder = configs / ".preflight"
    folder.mkdir()
    writer = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(folder / "fsdp2.yaml")],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert writer.stdout is not None
    draft = Path(writer.stdout.readline().strip())
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    assert draft.exists()
    young = folder / ".fsdp2.yaml.0123456789ab.part"
    young.write_text("of a writer between two steps")
    ours = folder / ".mine.part"
    ours.write_text("of somebody else")
    for path in (draft, ours):
        os.utime(path, (time.time() - 3600,) * 2)
    assert run(configs, "0/fsdp2.yaml", "out").wait() == 0

    assert not draft.exists()
    assert young.exists() and ours.exists()


def test_a_draft_that_is_being_written_stays_however_old_it_looks(tmp_path):
    """Its lock is held for as long as its writer lives."""
    code = (
        "import fcntl, sys, time\nfile = open(sys.argv[1], 'w')\n"
        "fcntl.flock(file, fcntl.LOCK_EX)\nprint('held', flush=True)\ntime.sleep(100)\n"
    )
    draft = tmp_path / ".f.0123456789ab.part"
    writer = subprocess.Popen(
        [sys.executable, "-c", code, str(draft)], stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    writer.stdout.readline()
    os.utime(draft, (0, 0))
    from preflight.whole_file import write_whole

    write_whole(str(tmp_path / "f"), "a")
    assert draft.exists()
    writer.kill()
    writer.wait()
    write_whole(str(tmp_path / "f"), "a")

    assert os.listdir(tmp_path) == ["f"]
