"""Where repositories check their launches: scan, its SARIF, the commit hook, the pytest fixture, the workflow."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import tiny
import yaml

from preflight import __version__

LLAMA = (
    "--model_name_or_path meta-llama/Llama-3.1-8B --max_length 4096 --gradient_checkpointing True"
)
CONFIG = """\
compute_environment: LOCAL_MACHINE
distributed_type: FSDP
mixed_precision: bf16
num_machines: 1
num_processes: 8
fsdp_config:
  fsdp_version: 2
  fsdp_auto_wrap_policy: TRANSFORMER_BASED_WRAP
"""


@pytest.fixture
def repository(tmp_path):
    """A repository with a launch that fits an H100, one that does not, one that is wrong, and one that nobody can tell."""
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "fsdp2.yaml").write_text(CONFIG)
    (tmp_path / "train.py").write_text(
        "from transformers import HfArgumentParser, Trainer, TrainingArguments\n"
    )
    launch = "accelerate launch --config_file"
    (tmp_path / "fits.sh").write_text(
        f"#!/bin/bash\n# eight GPUs\nBATCH=1\n{launch} configs/fsdp2.yaml train.py \\\n"
        f'    {LLAMA} --per_device_train_batch_size $BATCH "$@"\n'
    )
    (tmp_path / "large.sh").write_text(
        f"{launch} configs/fsdp2.yaml train.py {LLAMA} --per_device_train_batch_size 64\n"
    )
    (tmp_path / "wrong.sh").write_text(f"{launch} configs/fsdp3.yaml train.py {LLAMA}\n")
    (tmp_path / "shell.sh").write_text(
        f"accelerate launch --mixed_precision $(python kind.py) --num_processes 8 train.py {LLAMA}\n"
    )
    (tmp_path / "preflight.toml").write_text('device = "h100-sxm-80"\n')
    return tmp_path


def command(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "preflight", *args],
        cwd=folder,
        env=tiny.environment(folder, COLUMNS="200"),
        capture_output=True,
        text=True,
    )


def wheres(done: subprocess.CompletedProcess[str]) -> dict[str, bool]:
    launches = json.loads(done.stdout)["launches"]
    return {launch["where"]: launch["is_refused"] for launch in launches}


def test_every_launch_of_a_repository_is_checked_at_its_line(repository):
    text = command(repository, "scan")
    as_json = command(repository, "scan", "--format", "json")

    assert text.returncode == as_json.returncode == 1
    assert wheres(as_json) == {
        "fits.sh:4": False,
        "large.sh:1": True,
        "shell.sh:1": False,
        "wrong.sh:1": True,
    }
    assert "fits.sh:4: fits. Peak " in text.stdout
    assert "large.sh:1: does not fit as written, fits rewritten. Peak " in text.stdout
    assert "shell.sh:1: not checked: " in text.stdout
    assert "wrong.sh:1: the config file 'configs/fsdp3.yaml' does not exist" in text.stdout
    *_, counted, last = text.stdout.splitlines()
    assert counted == "preflight: 4 launches: 1 fits, 1 does not fit, 1 not checked, 1 wrong"
    assert last.startswith("next: 2 of 4 launches refused")


def test_a_folder_means_what_stands_below_it(repository):
    (repository / "jobs").mkdir()
    (repository / "fits.sh").rename(repository / "jobs" / "fits.sh")
    below = command(repository, "scan", "--format", "json", "jobs")

    assert wheres(below) == {"jobs/fits.sh:4": False} and below.returncode == 0
    assert len(wheres(command(repository, "scan", "--format", "json", "."))) == 4


def test_a_scan_in_which_nothing_could_be_judged_is_no_success(repository):
    (repository / "preflight.toml").unlink()
    (repository / "wrong.sh").unlink()
    text = command(repository, "scan")
    one = command(repository, "scan", "--device", "h100-sxm-80", "fits.sh")

    assert text.returncode == 2 and one.returncode == 0
    assert "3 launches: 2 unknown, 1 not checked" in text.stdout
    assert text.stdout.splitlines()[-1].startswith("next: nothing was judged: no device is known")
    for form in ("json", "sarif"):
        told = command(repository, "scan", "--format", form)
        assert told.returncode == 2 and json.loads(told.stdout)
        assert "preflight: nothing was judged: no device is known" in told.stderr


def test_files_that_are_not_looked_into_are_named(repository):
    (repository / "long.sh").write_text("#" * 1_000_001)
    deep = repository.joinpath(*"abcdefghijklmn")
    deep.mkdir(parents=True)
    done = command(repository, "scan", "--format", "json")

    assert json.loads(done.stdout)["left_out"] == ["long.sh", "a/b/c/d/e/f/g/h/i/j/k/l/m"]
    assert "note: not looked into" in command(repository, "scan").stdout


def test_a_change_concerns_the_launches_that_stand_in_it_or_name_it(repository):
    script = command(repository, "scan", "--format", "json", "fits.sh")
    config = command(repository, "scan", "--format", "json", "configs/fsdp2.yaml")
    code = command(repository, "scan", "--format", "json", "train.py")
    other = command(repository, "scan", "preflight.toml")
    none = command(repository, "scan", "absent.sh")

    assert wheres(script) == {"fits.sh:4": False} and script.returncode == 0
    assert wheres(config) == {"fits.sh:4": False, "large.sh:1": True} and config.returncode == 1
    assert len(wheres(code)) == 4
    assert other.returncode == 0 and other.stdout.startswith("preflight: no launch in these files")
    assert none.returncode == 2 and "there is no file absent.sh" in none.stderr


def test_a_script_that_goes_to_its_own_folder_is_read_from_there(repository):
    (repository / "scripts").mkdir()
    text = (
        (repository / "fits.sh").read_text().replace("BATCH=1", 'BATCH=1\ncd "$(dirname "$0")/.."')
    )
    (repository / "scripts" / "deep.sh").write_text(text)
    (repository / "elsewhere").mkdir()
    done = command(repository, "scan", "--format", "json", "scripts/deep.sh")

    assert wheres(done) == {"scripts/deep.sh:5": False}


def test_sarif_has_a_result_at_the_line_of_each_launch_that_is_not_well(repository):
    done = command(repository, "scan", "--format", "sarif")
    log = json.loads(done.stdout)
    (run,) = log["runs"]
    rules = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    at = {
        (
            place["physicalLocation"]["artifactLocation"]["uri"],
            place["physicalLocation"]["region"]["startLine"],
            result["ruleId"],
            result["level"],
        )
        for result in run["results"]
        for place in result["locations"]
    }

    assert log["version"] == "2.1.0" and run["tool"]["driver"]["name"] == "preflight"
    assert ("large.sh", 1, "does-not-fit", "error") in at
    assert ("wrong.sh", 1, "PF111", "error") in at
    assert not [entry for entry in at if entry[0] == "fits.sh" and entry[3] == "error"]
    assert all(rules[result["ruleIndex"]] == result["ruleId"] for result in run["results"])
    assert all(result["message"]["text"] for result in run["results"])


def test_sarif_names_the_version_and_says_one_mistake_of_two_launches_once(repository):
    text = (repository / "wrong.sh").read_text()
    (repository / "wrong.sh").write_text(text + text.replace("4096", "2048"))
    (repository / "configs" / "fsdp3.yaml").write_text(CONFIG + "  fsdp_x: 1\n")
    run = json.loads(command(repository, "scan", "--format", "sarif", "wrong.sh").stdout)["runs"][0]
    said = [(r["ruleId"], r["locations"], r["message"]["text"]) for r in run["results"]]

    assert run["tool"]["driver"]["version"] == __version__
    assert len([one for one in said if one[0] == "PF101"]) == 1
    assert all(one not in said[:at] for at, one in enumerate(said))


WORKFLOW_COMMAND = re.compile(
    r"::(error|warning|notice) file=([^,:]+),line=(\d+),title=([^,:]+)::(.+)"
)


def test_a_workflow_of_github_gets_a_command_for_each_result_and_the_report(repository):
    done = command(repository, "scan", "--format", "github")
    lines = done.stdout.splitlines()
    sarif = json.loads(command(repository, "scan", "--format", "sarif").stdout)["runs"][0]
    commands = [WORKFLOW_COMMAND.fullmatch(line) for line in lines[: len(sarif["results"])]]

    assert done.returncode == 1 and all(commands)
    assert [one[4].removeprefix("preflight ") for one in commands if one] == [
        result["ruleId"] for result in sarif["results"]
    ]
    assert ("error", "large.sh", "1") in {one.group(1, 2, 3) for one in commands if one}
    assert lines[-2].startswith("preflight: 4 launches")


def test_what_github_would_take_for_the_end_of_a_property_is_escaped(repository):
    (repository / "large.sh").rename(repository / "100%.sh")
    done = command(repository, "scan", "--format", "github", "100%.sh")

    assert "file=100%25.sh,line=1," in done.stdout


def test_check_says_it_to_github_too_beside_its_report(repository):
    words = (repository / "large.sh").read_text().split()
    done = command(repository, "check", "--format", "github", "--", *words)

    assert done.returncode == 1
    assert done.stdout.startswith("::error file=configs/fsdp2.yaml,line=1,title=preflight does-not")
    assert "\npreflight: does not fit" in done.stdout


def test_many_launches_that_were_not_checked_are_counted_by_reason(repository):
    line = (repository / "shell.sh").read_text()
    for name in ("A", "B", "C"):
        (repository / f"{name}.sh").write_text(line.replace("$(python kind.py)", f"${name}"))
    (repository / "README.md").write_text(
        "```sh\naccelerate launch --config_file configs/fsdp2.yaml --num_processes {n} train.py\n```\n"
    )
    said = command(repository, "scan").stdout.splitlines()

    assert "1 fits" in said[-2] and "4 not checked" in said[-2]
    assert "because only a shell knows a value" in said[-2]
    blank = next(line for line in said if line.startswith("README.md:2: "))
    assert "unknown: " in blank


def test_a_scan_outside_a_repository_says_where_it_walks(repository):
    (repository / "preflight.toml").unlink()
    outside = command(repository, "scan", "--device", "h100-sxm-80", "fits.sh")
    (repository / ".git").mkdir()
    (repository / "deeper").mkdir()
    inside = command(repository / "deeper", "scan")

    told = " ".join(outside.stderr.split())
    assert f"no repository is here: every folder below {repository} is looked into" in told
    assert inside.stderr == ""


def test_check_says_sarif_too(repository):
    words = (repository / "large.sh").read_text().split()
    done = command(repository, "check", "--format", "sarif", "--", *words)
    (result, *_) = json.loads(done.stdout)["runs"][0]["results"]

    assert done.returncode == 1 and result["ruleId"] == "does-not-fit"
    place = result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
    assert place == "configs/fsdp2.yaml"


def test_the_commit_hook_checks_what_a_commit_changes(repository):
    """What pre-commit does with the file: the pattern picks files, the entry gets them."""
    (hook,) = yaml.safe_load((tiny.ROOT / ".pre-commit-hooks.yaml").read_text())
    changed = ["large.sh", "configs/fsdp2.yaml", "logo.png", "Makefile", "docs/README.md"]
    picked = [path for path in changed if re.search(hook["files"], path)]
    entry = hook["entry"].split()
    refused = command(repository, *entry[1:], "large.sh")
    passed = command(repository, *entry[1:], "fits.sh")

    assert picked == ["large.sh", "configs/fsdp2.yaml", "Makefile", "docs/README.md"]
    assert entry[0] == "preflight" and hook["language"] == "python"
    assert (refused.returncode, passed.returncode) == (1, 0)


def test_the_workflow_finds_what_a_branch_changed_and_writes_sarif(repository, tmp_path_factory):
    """Its own step, run by bash with the variables of a runner, in a real git repository."""
    runner = tmp_path_factory.mktemp("runner")
    workflow = yaml.safe_load((tiny.ROOT / "templates" / "github" / "preflight.yml").read_text())
    steps = workflow["jobs"]["launches"]["steps"]
    (step,) = [step for step in steps if step.get("id") == "check"]

    def git(*args: str) -> None:
        who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        subprocess.run(["git", *who, *args], cwd=repository, check=True, capture_output=True)

    git("init", "-q", "-b", "main")
    git("add", "-A")
    git("commit", "-qm", "before")
    git("update-ref", "refs/remotes/origin/main", "HEAD")

    def run() -> subprocess.CompletedProcess[str]:
        (runner / "output").write_text("")
        variables = {
            "RUNNER_TEMP": str(runner),
            "GITHUB_BASE_REF": "main",
            "GITHUB_OUTPUT": str(runner / "output"),
        }
        return subprocess.run(
            ["bash", "-eo", "pipefail", "-c", step["run"]],
            cwd=repository,
            env=tiny.environment(repository, **variables),
            capture_output=True,
            text=True,
        )

    unchanged = run()
    nothing = (runner / "output").read_text()
    (repository / "fits.sh").write_text((repository / "fits.sh").read_text().replace("=1", "=2"))
    (repository / "a file.txt").write_text("a name with a space\n")
    git("add", "-A")
    git("commit", "-qm", "larger")
    fits = run()
    (repository / "large.sh").write_text((repository / "large.sh").read_text().replace("64", "65"))
    git("commit", "-qam", "much larger")
    large = run()
    log = json.loads((runner / "preflight.sarif").read_text())

    assert unchanged.returncode == 0 and nothing == "", unchanged.stderr
    assert fits.returncode == 0, fits.stdout + fits.stderr
    assert large.returncode == 1 and "large.sh:1: does not fit" in large.stdout
    assert (runner / "output").read_text().strip() == f"sarif={runner}/preflight.sarif"
    assert "does-not-fit" in {result["ruleId"] for result in log["runs"][0]["results"]}


TESTS = """\
def test_fits(assert_fits):
    (report,) = assert_fits("fits.sh", device="h100-sxm-80")
    assert report.plan.world_size == 8


def test_does_not_fit(assert_fits):
    assert_fits("large.sh")


def test_small_card(assert_fits):
    assert_fits("fits.sh", device="t4-16")


def test_cannot_tell(assert_fits):
    assert_fits("shell.sh")


def test_no_launch(assert_fits):
    assert_fits("train.py")


def test_argv(assert_fits):
    words = open("fits.sh").read().split("BATCH=1")[1].replace("\\\\", "").replace("$BATCH", "1")
    assert_fits(words.replace('"$@"', "").split(), settings={"seq_len": 1024})
"""


def test_the_fixture_fails_a_test_with_the_report_and_loads_nothing_without_one(repository):
    (repository / "test_launches.py").write_text(TESTS)
    (repository / "test_other.py").write_text(
        "import sys\n\n\ndef test_nothing_is_loaded():\n"
        "    loaded = {name for name in sys.modules if name.startswith('preflight')}\n"
        "    door = {'preflight', 'preflight.version', 'preflight.embedded'}\n"
        "    assert loaded <= {*door, 'preflight.embedded.pytest_plugin'}, loaded\n"
    )
    started = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*started, "test_other.py", "test_launches.py"],
        cwd=repository,
        env={**tiny.environment(repository), "PYTHONPATH": "", "COLUMNS": "200"},
        capture_output=True,
        text=True,
    )
    failed = set(re.findall(r"^FAILED test_launches.py::(\w+)", done.stdout, re.M))

    assert failed == {
        *("test_does_not_fit", "test_small_card", "test_cannot_tell", "test_no_launch")
    }, done.stdout
    assert "3 passed" in done.stdout or "4 failed" in done.stdout
    assert "large.sh:1: does not fit as written" in done.stdout
    summary = done.stdout.partition("short test summary")[2]
    assert "test_small_card - AssertionError: fits.sh:4: does not fit" in summary
    assert "no launch stands in train.py" in done.stdout
    assert os.listdir(repository / "configs") == ["fsdp2.yaml"]
