"""Templates that no launcher starts: plugins answer in the real plugin manager, CI and hooks run their commands."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from toy import preflight

from preflight.launch import LaunchCommand
from preflight.plugins import load_plugins
from preflight.studies.template_files import template_text

CHECK = ("check", "--format", "json", "--device", "h100-sxm-80", "--")
LAUNCH = (
    *("accelerate", "launch", "--config_file", "accelerate.yaml"),
    *("train.py", "--config", "training.yaml"),
)


def project(folder: Path, **files: str) -> Path:
    """Return a folder with a launch of the templates, and more files: name -> template."""
    files = {
        "accelerate.yaml": "accelerate/fsdp2.yaml",
        "training.yaml": "training/full.yaml",
        "train.py": "training/train.py",
        **files,
    }
    for name, template in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(template_text(template))
    return folder


def checked(folder: Path, *words: str) -> dict[str, Any]:
    done = preflight(folder, *CHECK, *(words or LAUNCH))
    assert done.returncode in (0, 1), done.stdout + done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def test_the_memory_rule_adds_its_term(tmp_path):
    own = project(tmp_path, **{"preflight_hooks.py": "plugins/memory_rule.py"})
    terms = {term["name"]: term for term in checked(own)["estimate"]["terms"]}

    assert terms["replay buffer"]["num_bytes"] == 1024 * 4096 * 8


def test_the_check_speaks_where_its_rule_is_broken(tmp_path):
    own = project(tmp_path, **{"preflight_hooks.py": "plugins/check.py"})
    fine, broken = (checked(own, *LAUNCH, "--max_length", length) for length in ("4096", "65536"))
    found = [finding for finding in broken["findings"] if finding["id"] == "OURS1"]

    assert [finding for finding in fine["findings"] if finding["id"] == "OURS1"] == []
    assert found[0]["message"] == "the global batch is 128 sequences, 8,388,608 tokens"
    assert found[0]["where"].startswith("training.yaml:")


def test_the_remedy_is_suggested_and_never_applied_unasked(tmp_path):
    own = project(tmp_path, **{"preflight_hooks.py": "plugins/remedy.py"})
    check = ("check", "--format", "json", "--device", "h100-sxm-80")
    alone = ("--forbid", "activation_checkpointing")
    launch = ("--", *LAUNCH, "--max_length", "32768")
    unasked = json.loads(preflight(own, *check, *alone, *launch).stdout)
    asked = json.loads(preflight(own, *check, *alone, "--allow", "cut_sequences", *launch).stdout)

    assert unasked["verdict"] == "does_not_fit"
    assert "cut_sequences" not in [tried["id"] for tried in unasked["applied"]]
    assert "cut_sequences" in [tried["id"] for tried in unasked["suggested"]]
    assert [tried["id"] for tried in asked["applied"]] == ["cut_sequences"]


def test_the_reader_reads_its_launcher_and_says_what_is_wrong(tmp_path):
    own = project(tmp_path, **{"preflight_hooks.py": "plugins/reader.py"})
    words = ("ourlaunch", "--gpus", "8", "--model", "Qwen/Qwen3-8B")
    report = checked(own, *words)
    wrong = preflight(own, *CHECK, "ourlaunch", "--gpus", "many")
    nobodys = load_plugins(str(own)).first(
        "preflight_read_launch", command=LaunchCommand(("theirlaunch",))
    )

    assert (report["verdict"], report["plan"]["world_size"]) == ("fits", 8)
    assert report["origins"]["seq_len"]["assumed"] and "seq_len" in report["assumed"]
    assert wrong.returncode == 2 and "must be a whole number" in wrong.stdout + wrong.stderr
    assert nobodys is None


def test_the_package_is_built_installed_and_asked(tmp_path):
    """Into a folder of its own: an entry point is found wherever its metadata stands on the path."""
    source = tmp_path / "source"
    source.mkdir()
    for name in ("pyproject.toml", "our_preflight_rules.py"):
        (source / name).write_text(template_text(f"plugins/package/{name}"))
    site = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run(
        [*pip, "--no-deps", "--no-build-isolation", "--target", str(site), str(source)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    own = project(tmp_path / "own")
    flags = ("--num_processes", "64", "--num_machines", "8", "--main_process_ip", "node-1")
    argv = (*LAUNCH[:4], *flags, *LAUNCH[4:])
    found = preflight(own, *CHECK, *argv, PYTHONPATH=str(site))

    assert "SITE1" in [finding["id"] for finding in json.loads(found.stdout)["findings"]]
    assert "our" in preflight(own, "hooks", PYTHONPATH=str(site)).stdout


def git(folder: Path, *words: str) -> None:
    who = ("-c", "user.name=t", "-c", "user.email=t@example.invalid")
    subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository whose second commit makes its launch too large."""
    own = project(tmp_path / "own", **{"launch.sh": "training/launch.sh"})
    git(own, "init", "-b", "main")
    git(own, "add", "-A")
    git(own, "commit", "-m", "a launch that fits")
    git(own, "update-ref", "refs/remotes/origin/main", "HEAD")
    text = (own / "training.yaml").read_text()
    larger = text.replace("max_length: 4096", "max_length: 65536")
    (own / "training.yaml").write_text(larger)
    git(own, "commit", "-am", "longer sequences")
    return own


def in_bash(folder: Path, script: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a script as a runner does, `bash -e`, with this preflight."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return subprocess.run(
        ["bash", "-eo", "pipefail", "-c", script],
        cwd=folder,
        env={**os.environ, "PATH": path, **env},
        capture_output=True,
        text=True,
    )


def test_the_workflow_checks_what_a_pull_request_concerns(repository, tmp_path):
    workflow = yaml.safe_load(template_text("github/preflight.yml"))
    steps = workflow["jobs"]["launches"]["steps"]
    script = next(step["run"] for step in steps if step.get("id") == "check")
    env = {
        "GITHUB_BASE_REF": "main",
        "RUNNER_TEMP": str(tmp_path),
        "GITHUB_OUTPUT": str(tmp_path / "output"),
    }
    done = in_bash(repository, script, **env)
    git(repository, "revert", "--no-edit", "HEAD")
    git(repository, "commit", "--allow-empty", "-m", "nothing")
    again = in_bash(repository, script, **env)

    assert workflow[True] == {"pull_request": None}  # YAML 1.1 reads the key `on` as true
    assert done.returncode == 1
    assert "launch.sh:8" in done.stdout and "does not fit" in done.stdout
    assert json.loads((tmp_path / "preflight.sarif").read_text())["version"] == "2.1.0"
    assert again.returncode == 0


def test_the_commit_hook_stops_the_commit_that_makes_a_launch_too_large(repository):
    hook = yaml.safe_load(template_text("pre-commit/pre-commit-config.yaml"))["repos"][0]["hooks"][0]  # fmt: skip
    shipped = yaml.safe_load((Path(__file__).parents[2] / ".pre-commit-hooks.yaml").read_text())
    larger = in_bash(repository, f"{hook['entry']} training.yaml")
    git(repository, "revert", "--no-edit", "HEAD")
    smaller = in_bash(repository, f"{hook['entry']} training.yaml")

    assert (hook["id"], hook["files"]) == (shipped[0]["id"], shipped[0]["files"])
    assert larger.returncode == 1 and "launch.sh:8" in larger.stdout
    assert smaller.returncode == 0 and "fits" in smaller.stdout


@pytest.mark.parametrize("version", ["1.30", kubernetes_validate.latest_version()])
def test_kubernetes_schema_takes_the_job_and_no_other_key(version):
    """The OpenAPI schema that Kubernetes publishes, strictly: a key that it does not have is refused."""
    job = yaml.safe_load(template_text("kubernetes/job.yaml"))
    misspelt = copy.deepcopy(job)
    pod = misspelt["spec"]["template"]["spec"]
    pod["initContainer"] = pod.pop("initContainers")

    assert version.startswith(kubernetes_validate.validate(job, version, strict=True))
    with pytest.raises(kubernetes_validate.ValidationError, match="initContainer"):
        kubernetes_validate.validate(misspelt, version, strict=True)
