"""check, run and fix on a launcher that really starts: what is started, what is not, and the exit codes."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys

import in_process
import pytest
from toy import launch, make, preflight

DEVICE = ("--device", "tiny:0.25")
"""256 MiB: two samples fit, three do not."""


@pytest.fixture
def folder(tmp_path):
    return make(tmp_path)


def test_what_fits_is_started_as_written_and_its_exit_code_is_the_launchers(folder):
    done = preflight(folder, "run", *DEVICE, "--", *launch(1))
    worker = json.loads(done.stdout)

    assert done.returncode == 7
    assert worker["argv"] == launch(1)[2:]
    assert worker["env"] == ""
    assert done.stderr.startswith("preflight: fits. Peak 1")
    assert done.stderr.splitlines()[-1] == "next: starts the launch as written"


def test_the_launcher_takes_the_place_of_preflight(folder):
    """Same process id: signals go to the launcher, and nothing is left in between."""
    started = subprocess.Popen(
        [sys.executable, "-m", "preflight.cli", "run", *DEVICE, "--", *launch(1)],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    out, _ = started.communicate()

    assert json.loads(out)["pid"] == started.pid


def test_a_signal_reaches_the_launcher(folder):
    (folder / "worker.py").write_text(
        "import os, signal\nos.kill(os.getpid(), signal.SIGTERM)\nsignal.pause()\n"
    )
    done = preflight(folder, "run", *DEVICE, "--", *launch(1))

    assert done.returncode == -signal.SIGTERM


def test_what_fits_after_a_safe_change_is_started_rewritten_and_the_change_is_shown(folder):
    done = preflight(folder, "run", *DEVICE, "--", *launch(4))
    worker = json.loads(done.stdout)

    assert done.returncode == 7
    assert worker["argv"][:4] in (
        ["--micro", "2", "--accumulate", "2"],
        ["--micro", "1", "--accumulate", "4"],
    )
    assert worker["env"] == "rewritten"
    assert done.stderr.startswith("preflight: does not fit as written, fits rewritten.")
    assert "- --micro 4\n" in done.stderr and "+ TOY=rewritten\n" in done.stderr
    assert done.stderr.splitlines()[-1].startswith(
        "next: starts the rewritten launch: TOY=rewritten"
    )


def test_what_no_safe_change_makes_fit_starts_nothing_and_exits_78(folder):
    done = preflight(folder, "run", "--device", "tiny:0.05", "--", *launch(4))

    assert done.returncode == 78
    assert done.stdout == ""
    assert done.stderr.startswith("preflight: does not fit. Peak ")
    assert done.stderr.splitlines()[-1].startswith("next: nothing was started; ")


def test_without_rewriting_the_same_change_is_only_suggested(folder):
    done = preflight(folder, "run", *DEVICE, "--no-rewrite", "--", *launch(4))

    assert done.returncode == 78
    assert done.stdout == ""
    assert "suggested" in done.stderr and "micro_batch" in done.stderr


def test_a_forbidden_remedy_is_neither_applied_nor_suggested(folder):
    done = preflight(folder, "run", *DEVICE, "--forbid", "micro_batch", "--", *launch(4))

    assert done.returncode == 78
    assert "micro_batch:" not in done.stderr


def test_what_is_tight_is_started_unless_a_policy_refuses_it(folder):
    (folder / "wide.yaml").write_text("margin_share: 0.2\n")
    (folder / "strict.yaml").write_text("margin_share: 0.2\nrefuse: [does_not_fit, tight]\n")
    options = ("run", "--device", "tiny:0.12", "--policy")
    wide = preflight(folder, *options, "wide.yaml", "--", *launch(1))
    strict = preflight(folder, *options, "strict.yaml", "--", *launch(1))

    assert wide.stderr.startswith("preflight: tight. ")
    assert wide.returncode == 7
    assert strict.stderr.startswith("preflight: tight. ")
    assert strict.returncode == 78
    assert strict.stdout == ""


@pytest.mark.parametrize(
    ("device", "micro", "code"), [("tiny:0.25", 1, 0), ("tiny:0.25", 4, 1), ("tiny:0.05", 4, 1)]
)
def test_check_starts_and_writes_nothing(folder, device, micro, code):
    before = sorted(path.name for path in folder.iterdir())
    done = in_process.preflight(folder, "check", "--device", device, "--", *launch(micro))

    assert done.returncode == code
    assert done.stderr == ""
    assert "pid" not in done.stdout
    assert sorted(path.name for path in folder.iterdir()) == before


def test_check_of_something_unknown_says_so_and_does_not_fail(folder):
    done = in_process.preflight(folder, "check", *DEVICE, "--", *launch(1, length=None))

    assert done.returncode == 0
    assert done.stdout.startswith("preflight: unknown: seq_len not known, and up to ")
    assert done.stdout.splitlines()[-1].endswith("to know, add --set seq_len=N before the `--`")


def test_set_says_what_the_files_do_not(folder):
    done = in_process.preflight(
        folder, "check", *DEVICE, "--set", "seq_len=32", "--", *launch(1, length=None)
    )

    assert done.stdout.startswith("preflight: fits.")


def test_fix_prints_a_command_that_a_shell_runs(folder):
    done = in_process.preflight(folder, "fix", *DEVICE, "--", *launch(4))
    ran = subprocess.run(["sh", "-c", done.stdout], cwd=folder, capture_output=True, text=True)

    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 1
    assert shlex.split(done.stdout)[0] == "TOY=rewritten"
    assert ran.returncode == 7
    assert json.loads(ran.stdout)["env"] == "rewritten"
    assert done.stderr.startswith("preflight: does not fit as written, fits rewritten.")


def test_fix_of_a_launch_that_fits_prints_it_unchanged(folder):
    done = in_process.preflight(folder, "fix", *DEVICE, "--", *launch(1))

    assert done.returncode == 0
    assert shlex.split(done.stdout) == launch(1)


def test_fix_prints_no_command_where_nothing_safe_fits(folder):
    done = in_process.preflight(folder, "fix", "--device", "tiny:0.05", "--", *launch(4))

    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.splitlines()[-1].startswith("next: nothing was written; ")


def test_json_has_the_keys_of_the_contract(folder):
    done = in_process.preflight(folder, "check", *DEVICE, "--format", "json", "--", *launch(4))
    report = json.loads(done.stdout)

    assert done.returncode == 1
    assert report["schema_version"] == 1
    assert report["verdict"] == "does_not_fit"
    assert report["may_launch"] is True
    assert report["assumed"] == {"load_dtype": "default of the toy"}
    assert report["origins"]["micro_batch_size"] == {"where": "--micro", "assumed": False}
    assert report["applied"][-1]["verdict"] == "fits"
    assert report["rewrite"]["argv"][:2] == launch(4)[:2]
    assert {t["name"]: t["num_bytes"] for t in report["estimate"]["terms"]}[
        "toy samples"
    ] == 4 * 100 * 2**20


def test_a_launcher_that_is_not_there_is_told_before_anything_is_written(folder):
    command = [
        "no-such-launcher",
        "worker.py",
        "--micro",
        "4",
        "--accumulate",
        "1",
        "--length",
        "32",
    ]
    done = preflight(folder, "run", *DEVICE, "--", *command)

    assert done.returncode == 78
    assert "'no-such-launcher' is not on PATH" in done.stderr
    assert not (folder / ".preflight").exists()
    assert done.stderr.splitlines()[-1] == "next: nothing was started"


def test_preflight_off_starts_the_command_and_says_that_it_is_unchecked(folder):
    done = preflight(folder, "run", *DEVICE, "--", *launch(400), PREFLIGHT="off")

    assert done.returncode == 7
    assert json.loads(done.stdout)["argv"] == launch(400)[2:]
    assert done.stderr == "preflight: skipped, because PREFLIGHT=off; the launch starts unchecked\n"


def test_a_launch_that_nobody_reads_is_unknown_and_starts(folder):
    checked = in_process.preflight(
        folder, "check", "--format", "json", *DEVICE, "--", "echo", "hello"
    )
    done = preflight(folder, "run", *DEVICE, "--", "echo", "hello")

    answer = json.loads(checked.stdout)
    assert checked.returncode == 0 and answer["verdict"] == "unknown"
    assert [finding["id"] for finding in answer["findings"]] == ["PF125"]
    assert done.returncode == 0 and done.stdout == "hello\n"
    assert "no reader knows this launcher: echo hello" in done.stderr


@pytest.mark.parametrize(
    ("words", "way_on"),
    [
        (["bash", "train.sh"], "preflight scan train.sh checks the launches that stand in it"),
        (["./train.sh", "--fast"], "preflight scan ./train.sh checks"),
        (["sh", "gone.sh"], "there is no file gone.sh"),
        (["sbatch", "--nodes", "2", "job.sh"], "preflight sbatch --nodes 2 job.sh judges the job"),
        (["train.py", "--lr", "1"], "-- python train.py --lr 1"),
        (["python train.py"], "leave the quotes out: -- python train.py"),
        (["acelerate", "launch", "train.py"], "did you mean accelerate"),
    ],
)
def test_what_somebody_meant_with_a_launch_that_nobody_reads_is_said(folder, words, way_on):
    for name in ("train.sh", "job.sh"):
        (folder / name).write_text("make train\n")
    done = in_process.preflight(folder, "check", "--format", "json", *DEVICE, "--", *words)

    (finding,) = json.loads(done.stdout)["findings"]
    assert finding["id"] == "PF125" and way_on in f"{finding['message']}; {finding['fix']}"


def test_a_launch_that_nobody_reads_is_refused_where_a_policy_wants_to_know(folder):
    (folder / "preflight.toml").write_text('[policy]\nrefuse = ["unknown"]\n')
    done = preflight(folder, "run", *DEVICE, "--", "echo", "hello")

    assert done.returncode == 78 and "hello" not in done.stdout


def test_settings_do_not_make_a_launch_that_nobody_reads_fit(folder):
    known = ("--set=model=gpt2", "--set=micro_batch_size=1", "--set=seq_len=8")
    done = in_process.preflight(
        folder, "check", "--format", "json", "--device=h100-sxm-80", *known, "--", "echo", "hello"
    )

    answer = json.loads(done.stdout)
    assert answer["verdict"] == "unknown" and answer["unpriced"] == ["a launch that was not read"]


def test_a_failing_plugin_is_named_and_starts_nothing(folder):
    broken = "\n\n@hookimpl\ndef preflight_findings(plan):\n    return 1 / 0\n"
    with (folder / "preflight_hooks.py").open("a") as file:
        file.write(broken)
    checked = in_process.preflight(folder, "check", *DEVICE, "--", *launch(1))
    ran = preflight(folder, "run", *DEVICE, "--", *launch(1))

    assert checked.returncode == 3
    assert "preflight_hooks.py failed in preflight_findings: ZeroDivisionError" in checked.stderr
    assert "Traceback" not in checked.stderr
    assert ran.returncode == 78 and ran.stdout == ""
    traced = in_process.preflight(folder, "check", *DEVICE, "--", *launch(1), PREFLIGHT_TRACE="1")
    assert "Traceback" in traced.stderr
    assert "preflight: trace: preflight_read_launch" in traced.stderr


@pytest.mark.parametrize("word", ["off", "OFF", " off", "off\n", "0", "False"])
def test_off_is_off_in_every_door_with_spaces_around_it(folder, word):
    done = preflight(folder, "run", *DEVICE, "--", *launch(400), PREFLIGHT=word)
    code = "import sys, preflight; print(preflight.before_launch(sys.argv[1:]))"
    embedded = subprocess.run(
        [sys.executable, "-c", code, *launch(400)],
        cwd=folder,
        env={**os.environ, "PREFLIGHT": word},
        capture_output=True,
        text=True,
    )

    assert done.returncode == 7
    assert embedded.stdout == f"{launch(400)}\n"


def test_a_word_that_means_nothing_is_told_and_the_launch_is_judged(folder):
    done = preflight(folder, "run", *DEVICE, "--", *launch(400), PREFLIGHT="of")

    assert "fits rewritten" in done.stderr
    assert "PREFLIGHT=of, which is none of off, warn, enforce and changes nothing" in done.stderr


def test_a_launch_that_preflight_itself_starts_is_judged_once(folder):
    (folder / "bin").mkdir()
    inner = folder / "bin" / "preflight"
    inner.write_text(f'#!/bin/sh\nexec {sys.executable} -m preflight "$@"\n')
    inner.chmod(0o755)
    path = f"{folder / 'bin'}:/usr/bin:/bin"
    words = ("run", "--", "preflight", "run", "--device", "tiny:0.05", "--", *launch(4))
    refused = preflight(folder, *words, PATH=path)
    started = preflight(folder, *words[:5], "tiny:0.25", "--", *launch(1), PATH=path)

    assert refused.returncode == 78
    assert refused.stderr.count("preflight: does not fit") == 1
    assert (started.returncode, started.stderr.count("preflight: fits")) == (7, 1)
