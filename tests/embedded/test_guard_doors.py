"""The guard of an installed preflight: real launchers, stopped before any worker or left exactly alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest
from toy import make

from preflight.embedded.guard_doors import guard_mode, is_launcher, is_training_script

BIN = Path(sys.executable).parent
SMALL, ROOMY = "tiny:0.05", "tiny:1.9"
"""The toy holds 100 MiB per sample: nothing fits the first, everything the second."""

WORKER = """\
import json, os, sys
if os.environ.get("WORKER_LOADS_ENTRY_POINTS"):  # as workers of a real training do sooner or later
    import torch.distributed.elastic.rendezvous
with open(f"worker-{os.getpid()}.json", "w") as file:
    json.dump({"argv": sys.argv[1:], "rank": os.environ.get("LOCAL_RANK")}, file)
"""

TORCHRUN = [str(BIN / "torchrun"), "--nproc_per_node", "2"]
ACCELERATE = [str(BIN / "accelerate"), "launch", "--num_machines", "1", "--mixed_precision", "no"]
ACCELERATE += ["--dynamo_backend", "no"]
FSDP = ["--use_fsdp", "--fsdp_version", "2"]
DEEPSPEED = ["--use_deepspeed", "--zero_stage", "2"]
SEVERAL = {
    "torchrun": TORCHRUN,
    "torch.distributed.run": [sys.executable, "-m", "torch.distributed.run", *TORCHRUN[1:]],
    "accelerate DDP": [*ACCELERATE, "--multi_gpu", "--num_processes", "2"],
    "accelerate FSDP": [*ACCELERATE, *FSDP, "--num_processes", "2"],
    "accelerate DeepSpeed": [*ACCELERATE, *DEEPSPEED, "--num_processes", "2"],
}
SINGLE = {
    "accelerate": [*ACCELERATE, "--num_processes", "1"],
    "python": ["python"],
    "deepspeed": ["deepspeed", "--num_gpus", "1"],
}
ARGUMENTS = ["worker.py", "--micro", "4", "--accumulate", "1", "--length", "32"]


@pytest.fixture
def folder(tmp_path):
    make(tmp_path)
    (tmp_path / "worker.py").write_text(WORKER)
    hooks = tmp_path / "preflight_hooks.py"
    # The toy counts words from `worker.py` on, whatever launcher stands in front.
    hooks.write_text(
        hooks.read_text()
        .replace(
            "command.argv[2::2], command.argv[3::2]", "rest(command)[::2], rest(command)[1::2]"
        )
        .replace(
            "TINY = {",
            "def rest(command):\n    at = command.argv.index('worker.py')\n"
            "    return command.argv[at + 1 :]\n\n\nTINY = {",
        )
    )
    return tmp_path


def settings(folder: Path, device: str, guard: str) -> None:
    (folder / "preflight.toml").write_text(f'device = "{device}"\nguard = "{guard}"\n')


def start(
    folder: Path, argv: list[str], bin_folder: Path = BIN, **variables: str
) -> subprocess.CompletedProcess[str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PREFLIGHT", "ACCELERATE"))}
    path = os.pathsep.join([str(bin_folder), str(BIN), kept["PATH"]])
    return subprocess.run(
        argv,
        cwd=folder,
        env={
            **kept,
            "PATH": path,
            "CUDA_VISIBLE_DEVICES": "",
            "DS_ACCELERATOR": "cpu",
            "OMP_NUM_THREADS": "1",
            **variables,
        },
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=120,
    )


def workers(folder: Path) -> list[dict[str, object]]:
    return [json.loads(file.read_text()) for file in folder.glob("worker-*.json")]


@pytest.mark.parametrize("name", SEVERAL)
def test_a_refused_launch_of_several_processes_ends_with_78_and_no_worker(name, folder):
    settings(folder, SMALL, "enforce")
    done = start(folder, [*SEVERAL[name], *ARGUMENTS])

    assert done.returncode == 78, done.stderr
    assert workers(folder) == []
    assert done.stderr.count("preflight: does not fit. Peak ") == 1
    assert done.stderr.splitlines()[-1].startswith("next: nothing was started; ")
    assert done.stdout == ""


def test_a_guard_that_only_warns_says_it_once_and_every_worker_starts(folder):
    done = start(folder, [*TORCHRUN, *ARGUMENTS], PREFLIGHT="warn")
    settings(folder, SMALL, "off")
    told = start(folder, [*TORCHRUN, *ARGUMENTS], PREFLIGHT="warn", WORKER_LOADS_ENTRY_POINTS="1")

    assert done.returncode == told.returncode == 0, told.stderr
    assert "preflight: unknown" in done.stderr and "no device is known" in done.stderr
    assert told.stderr.count("preflight: does not fit") == 1
    assert "next: starts the launch as written, because the guard only warns" in told.stderr
    assert sorted(str(worker["rank"]) for worker in workers(folder)) == ["0", "0", "1", "1"]


def test_what_fits_is_one_line_and_what_fits_rewritten_is_refused_with_the_way_to_start_it(folder):
    settings(folder, ROOMY, "enforce")
    fits = start(folder, [*TORCHRUN, *ARGUMENTS])
    num_workers = len(workers(folder))
    settings(folder, "tiny:0.25", "enforce")
    rewritten = start(folder, [*TORCHRUN, *ARGUMENTS])
    named = [line for line in fits.stderr.splitlines() if "preflight" in line]

    assert fits.returncode == 0 and num_workers == 2, fits.stderr
    assert len(named) == 1 and named[0].startswith("preflight: fits. Peak ")
    assert rewritten.returncode == 78 and len(workers(folder)) == 2
    last = rewritten.stderr.splitlines()[-1]
    assert last.startswith("next: nothing was started; start it rewritten: preflight run -- ")


def test_nothing_is_said_or_loaded_where_no_guard_is_asked_for(folder):
    settings(folder, SMALL, "off")
    done = start(folder, [*TORCHRUN, *ARGUMENTS])
    settings(folder, SMALL, "enforce")
    (folder / "site").mkdir()
    (folder / "site" / "sitecustomize.py").write_text(
        "import atexit, json, os, sys\n"
        "atexit.register(lambda: open(f'modules-{os.getpid()}.json', 'w').write(\n"
        "    json.dumps([name for name in sys.modules if name.startswith('preflight')])))\n"
    )
    told = {"WORKER_LOADS_ENTRY_POINTS": "1", "PYTHONPATH": str(folder / "site")}
    off = start(folder, [*TORCHRUN, *ARGUMENTS], PREFLIGHT="off", **told)
    loaded = [set(json.loads(file.read_text())) for file in folder.glob("modules-*.json")]

    assert done.returncode == off.returncode == 0
    assert "preflight" not in done.stderr + off.stderr
    # Launcher and workers load the door, which knows the switch that turns it off, and nothing else.
    names = ("", ".version", ".switch", ".embedded", ".embedded.guard_doors")
    door = {f"preflight{name}" for name in names}
    assert len(loaded) == 3 and all(modules <= door for modules in loaded)
    assert door in loaded
    assert len(workers(folder)) == 4


def test_a_failure_of_ours_is_told_and_the_launch_starts(folder):
    settings(folder, SMALL, "enforce")
    (folder / "preflight_hooks.py").write_text("raise RuntimeError('broken plugin')\n")
    broken = start(folder, [*TORCHRUN, *ARGUMENTS])
    (folder / "preflight.toml").write_text('guard = "enforce"\ndevize = "t4-16"\n')
    misspelt = start(folder, [*TORCHRUN, *ARGUMENTS])

    assert broken.returncode == misspelt.returncode == 0
    assert "broken plugin" in broken.stderr and "the launch starts unchecked" in broken.stderr
    assert "there is no key 'devize'" in misspelt.stderr
    assert len(workers(folder)) == 4


def test_run_under_a_guard_checks_once(folder):
    settings(folder, ROOMY, "enforce")
    done = start(folder, [str(BIN / "preflight"), "run", "--", *TORCHRUN, *ARGUMENTS])

    assert done.returncode == 0, done.stderr
    assert done.stderr.count("preflight: fits") == 1
    assert len(workers(folder)) == 2


def make_environment(folder: Path) -> tuple[Path, Path]:
    """Return Python and site-packages of a new environment that sees the packages of this one."""
    venv.create(folder, symlinks=True, with_pip=False)
    python = folder / "bin" / "python"
    where = subprocess.check_output(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], text=True
    ).strip()
    # addsitedir reads the .pth files of the packages too, as an editable install needs.
    (Path(where) / "packages.pth").write_text(
        f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n"
    )
    return python, Path(where)


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """An environment of its own, with the file installed into it."""
    folder = tmp_path_factory.mktemp("environment")
    python, _ = make_environment(folder)
    for program in ("accelerate", "deepspeed"):
        text = (BIN / program).read_text().split("\n", 1)[1]
        (folder / "bin" / program).write_text(f"#!{python}\n{text}")
        (folder / "bin" / program).chmod(0o755)
    done = subprocess.run(
        [python, "-m", "preflight", "guard", "--install"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return folder / "bin"


@pytest.mark.parametrize("name", SINGLE)
def test_the_installed_file_refuses_launches_of_one_process(name, folder, environment):
    settings(folder, SMALL, "enforce")
    program, *rest = SINGLE[name]
    program = str(environment / Path(program).name)
    done = start(folder, [program, *rest, *ARGUMENTS], environment)

    assert done.returncode == 78, done.stderr
    assert workers(folder) == []
    assert done.stderr.count("preflight: does not fit. Peak ") == 1


def test_the_installed_file_checks_a_launch_once_and_leaves_other_programs_alone(
    folder, environment
):
    settings(folder, ROOMY, "enforce")
    program = str(environment / "accelerate")
    fits = start(folder, [program, *SINGLE["accelerate"][1:], *ARGUMENTS], environment)
    python = str(environment / "python")
    (folder / "report.py").write_text("print('a report')\n")
    other = start(folder, [python, "report.py"], environment)
    code = start(folder, [python, "-c", "print(1)"], environment)

    assert fits.returncode == 0 and len(workers(folder)) == 1, fits.stderr
    assert fits.stderr.count("preflight: fits. Peak ") == 1
    assert (other.stdout, other.stderr, code.stderr) == ("a report\n", "", "")


def test_the_file_is_removed_only_where_it_is_ours(folder, tmp_path_factory):
    python, site = make_environment(tmp_path_factory.mktemp("other"))
    command = [str(python), "-m", "preflight", "guard"]
    file = site / "preflight-guard.pth"

    file.write_text("import os\n")
    foreign = start(folder, [*command, "--remove"])
    file.unlink()
    none = start(folder, [*command, "--remove"])
    wrote = start(folder, [*command, "--install"])
    again = start(folder, [*command, "--install"])
    removed = start(folder, [*command, "--remove"])

    assert foreign.returncode == 2 and "left alone" in foreign.stderr
    assert none.stdout.startswith("preflight: there is no ")
    assert wrote.stdout.startswith("preflight: wrote ")
    assert "was there already" in again.stdout
    assert removed.stdout.startswith("preflight: removed ") and not file.exists()


def test_a_guard_that_is_off_costs_less_than_torchs_own_look_for_it(folder):
    """Both are timed in one process, the least of several: torch's scan takes some three milliseconds."""
    (folder / "torchrun").write_text(
        "import time, typing, importlib.metadata as metadata\n"
        "started = time.perf_counter()\n"
        "points = metadata.entry_points(group='torchrun.handlers')\n"
        "found = time.perf_counter()\n"
        "handler = points['preflight'].load()()\n"
        "print(time.perf_counter() - found, found - started)\n"
    )
    timed = []
    for _ in range(6):
        done = start(
            folder, [sys.executable, "torchrun"], PYTHONDONTWRITEBYTECODE="", PYTHONPATH=""
        )
        own, scan = map(float, done.stdout.split())
        timed.append((own, scan))

    assert min(own for own, _ in timed) < min(scan for _, scan in timed)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("python /venv/bin/torchrun --nproc_per_node 2 train.py", True),
        ("python -u -m torch.distributed.run train.py", True),
        ("python /venv/bin/accelerate launch train.py", True),
        ("python /venv/bin/accelerate config", False),
        ("python -m accelerate.commands.launch train.py", True),
        ("python -W ignore /venv/bin/accelerate-launch train.py", True),
        ("python train.py torchrun", False),
        ("python -c torchrun", False),
        ("python", False),
    ],
)
def test_a_launcher_is_told_from_what_it_starts(line, expected):
    assert is_launcher(line.split()) is expected


def test_the_environment_beats_the_repository_and_the_repository_ends_at_its_git_folder(
    tmp_path, monkeypatch
):
    monkeypatch.delenv("PREFLIGHT", raising=False)
    inner = tmp_path / "repository" / "configs"
    inner.mkdir(parents=True)
    (tmp_path / "preflight.toml").write_text('guard = "enforce"\n')
    (tmp_path / "repository" / ".git").mkdir()
    outside = guard_mode(str(inner))
    project = "[project]\nname = 'x'\n\n[tool.preflight]\nguard = 'warn'\n"
    (tmp_path / "repository" / "pyproject.toml").write_text(project)

    assert outside == ""
    assert guard_mode(str(inner)) == "warn"
    monkeypatch.setenv("PREFLIGHT", "enforce")
    assert guard_mode(str(inner)) == "enforce"
    monkeypatch.setenv("PREFLIGHT", "1")
    assert guard_mode(str(inner)) == ""


def test_a_training_script_is_one_that_imports_what_trains(tmp_path):
    (tmp_path / "train.py").write_text("from transformers import HfArgumentParser, Trainer\n")
    (tmp_path / "plot.py").write_text("import matplotlib\n")

    assert is_training_script(["python", "-u", str(tmp_path / "train.py")])
    assert not is_training_script(["python", str(tmp_path / "plot.py")])
    assert not is_training_script(["python", "-m", str(tmp_path / "train.py")])
    assert not is_training_script(["python", str(tmp_path / "absent.py")])
