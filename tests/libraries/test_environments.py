"""Which Python environment a launch starts in, and what that has: folders made by hand, and a real one."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from base64 import urlsafe_b64encode
from hashlib import sha256
from pathlib import Path

import pytest

from preflight.command import LaunchCommand
from preflight.libraries.distributions import versions_in
from preflight.libraries.environments import environment_of
from preflight.libraries.requirement import LIBRARIES
from preflight.libraries.resolve import HERE, libraries_of
from preflight.shell.starters.wrappers import unwrapped

SCRIPT = "import transformers\n"


def environment(prefix: Path, **versions: str) -> Path:
    """Make a folder that looks like a virtual environment with accelerate's launcher and some distributions."""
    site = prefix / "lib/python3.11/site-packages"
    site.mkdir(parents=True)
    (prefix / "bin").mkdir()
    (prefix / "bin/python3").touch(mode=0o755)
    launcher = prefix / "bin/accelerate"
    launcher.write_text(f"#!{prefix}/bin/python3\nfrom accelerate import main\n")
    launcher.chmod(0o755)
    for name, version in versions.items():
        (site / f"{name}-{version}.dist-info").mkdir()
    return prefix


def found(root: Path, *argv: str, **env: str) -> dict[str, str]:
    """Return library -> version with who says it, of a launch behind its wrappers."""
    command = LaunchCommand(argv, env, str(root))
    while layers := unwrapped(command):
        command = layers[-1].inner
    known = libraries_of(command).known
    return {name: f"{said.version} by {said.origin.where}" for name, said in known.items()}


@pytest.fixture(autouse=True)
def _a_repository(tmp_path):
    (tmp_path / ".git").mkdir()
    (tmp_path / "train.py").write_text(SCRIPT)


def test_a_launcher_given_by_its_path_names_its_environment(tmp_path):
    environment(tmp_path / "venv", trl="0.12.0", torch="2.5.1+cu121")
    launch = ("venv/bin/accelerate", "launch", "train.py")

    assert found(tmp_path, *launch) == {"trl": "0.12.0 by venv", "torch": "2.5.1+cu121 by venv"}


def test_a_launcher_whose_path_is_too_long_for_a_first_line_names_it_too(tmp_path):
    prefix = environment(tmp_path / "venv", trl="0.12.0")
    (prefix / "bin/torchrun").write_text(f"#!/bin/sh\n'''exec' \"{prefix}/bin/python3\" \"$0\" \"$@\"\n' '''\n")  # fmt: skip

    assert found(tmp_path, "venv/bin/torchrun", "train.py") == {"trl": "0.12.0 by venv"}


def test_an_environment_that_is_not_here_says_nothing_and_neither_does_ours(tmp_path):
    command = LaunchCommand(("/cluster/env/bin/accelerate", "launch"), {}, str(tmp_path))
    libraries = libraries_of(command)

    assert libraries.known == {}
    assert libraries.unseen == "/cluster/env"


@pytest.mark.parametrize(
    "text",
    [
        "source venv/bin/activate && accelerate launch train.py",
        ". venv/bin/activate; exec accelerate launch train.py",
        "source {root}/venv/bin/activate\ncd sub\naccelerate launch ../train.py",
    ],
)
def test_a_shell_that_activates_one_names_it(tmp_path, text):
    environment(tmp_path / "venv", trl="0.12.0")
    (tmp_path / "sub").mkdir()
    versions = found(tmp_path, "bash", "-c", text.format(root=tmp_path))

    assert list(versions) == ["trl"] and versions["trl"].startswith("0.12.0 by ")


CONDA = {
    "miniforge3 of the user": "home/miniforge3/envs/train",
    "a folder of its own": "home/.conda/envs/train",
    "where conda is told to look": "shelf/train",
    "beside conda's program": "opt/conda/envs/train",
    "written down by conda": "somewhere/train",
}


@pytest.mark.parametrize("where", CONDA)
@pytest.mark.parametrize(
    "words",
    [
        ("conda", "run", "-n", "train", "--no-capture-output", "accelerate", "launch", "train.py"),
        ("bash", "-c", "conda activate train && accelerate launch train.py"),
    ],
)
def test_conda_environments_are_found_by_name(tmp_path, where, words):
    prefix = environment(tmp_path / CONDA[where], trl="0.12.0")
    (tmp_path / "home/.conda").mkdir(parents=True, exist_ok=True)
    (tmp_path / "opt/conda/bin").mkdir(parents=True, exist_ok=True)
    env = {"HOME": str(tmp_path / "home"), "PATH": "/usr/bin"}
    if where == "where conda is told to look":
        env["CONDA_ENVS_PATH"] = str(tmp_path / "shelf")
    if where == "beside conda's program":
        env["CONDA_EXE"] = str(tmp_path / "opt/conda/bin/conda")
    if where == "written down by conda":
        (tmp_path / "home/.conda/environments.txt").write_text(f"/gone\n{prefix}\n")

    assert found(tmp_path, *words, **env) == {"trl": "0.12.0 by conda environment train"}


def test_the_environments_of_projects_are_those_of_their_tools(tmp_path):
    """uv and pixi keep theirs in the project; poetry and pipenv name a folder by a hash of the project's path."""
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "ours"\n')
    environment(tmp_path / ".venv", trl="0.12.0")
    environment(tmp_path / "other", trl="0.13.0")
    environment(tmp_path / ".pixi/envs/gpu", trl="0.14.0")
    launch = ("accelerate", "launch", "train.py")

    assert found(tmp_path, "uv", "run", *launch)["trl"] == "0.12.0 by .venv"
    assert found(tmp_path, "rye", "run", *launch)["trl"] == "0.12.0 by .venv"
    assert found(tmp_path, "poetry", "run", *launch)["trl"] == "0.12.0 by .venv"
    named = {"UV_PROJECT_ENVIRONMENT": "other"}
    assert found(tmp_path, "uv", "run", *launch, **named)["trl"] == "0.13.0 by other"
    gpu = found(tmp_path, "pixi", "run", "-e", "gpu", *launch)
    assert gpu["trl"] == "0.14.0 by .pixi/envs/gpu"
    with_trl = found(tmp_path, "uv", "run", "--with", "trl==0.16.0", *launch)
    assert with_trl["trl"] == "0.16.0 by --with trl==0.16.0"


@pytest.mark.parametrize(
    ("tool", "marker", "text"),
    [
        ("poetry", "pyproject.toml", '[tool.poetry]\nname = "Our Train"\n'),
        ("pipenv", "Pipfile", "[packages]\n"),
    ],
)
def test_an_environment_on_a_tools_shelf_is_found(tmp_path, tool, marker, text):
    (tmp_path / marker).write_text(text)
    path = str(tmp_path) if tool == "poetry" else str(tmp_path / "Pipfile")
    digest = urlsafe_b64encode(sha256(path.encode()).digest()).decode()[:8]
    name = "our_train" if tool == "poetry" else tmp_path.name
    shelf = ".cache/pypoetry/virtualenvs" if tool == "poetry" else ".local/share/virtualenvs"
    environment(tmp_path / "home" / shelf / f"{name}-{digest}-py3.11", trl="0.12.0")
    home = {"HOME": str(tmp_path / "home")}
    versions = found(tmp_path, tool, "run", "accelerate", "launch", "train.py", **home)

    assert versions["trl"].startswith("0.12.0 by home/")


def test_one_that_somebody_activated_is_told_by_path(tmp_path):
    venv = environment(tmp_path / "venv", trl="0.12.0", torch="2.5.1")
    other = environment(tmp_path / "other", trl="0.9.6", torch="2.4.0")
    env = {"VIRTUAL_ENV": str(venv), "PATH": f"{venv}/bin:{other}/bin:/usr/bin"}

    assert found(tmp_path, "accelerate", "launch", "train.py", **env)["trl"] == "0.12.0 by venv"


def test_in_a_container_nothing_of_this_machine_counts(tmp_path):
    venv = environment(tmp_path / "venv", trl="0.12.0")
    env = {"PATH": f"{venv}/bin:/usr/bin", "VIRTUAL_ENV": str(venv)}
    words = ("apptainer", "exec", "image.sif", "accelerate", "launch", "train.py")

    assert found(tmp_path, *words, **env) == {}


def test_editable_and_old_kinds_of_metadata_are_read(tmp_path):
    prefix = environment(tmp_path / "venv")
    site = prefix / "lib/python3.11/site-packages"
    (tmp_path / "src/trl.egg-info").mkdir(parents=True)
    (tmp_path / "src/trl.egg-info/PKG-INFO").write_text("Metadata-Version: 2.1\nVersion: 0.13.0.dev0\n")  # fmt: skip
    (site / "trl.egg-link").write_text(f"{tmp_path}/src\n.")
    (site / "accelerate-0.33.0-py3.11.egg-info").write_text("")
    (site / "Flash_Attn-2.6.3.dist-info").mkdir()
    (site / "broken.egg-link").write_text("")
    names = ("trl", "accelerate", "flash_attn")

    assert versions_in([str(site)], names) == {
        "accelerate": "0.33.0",
        "flash_attn": "2.6.3",
        "trl": "0.13.0.dev0",
    }


def test_what_is_installed_later_is_seen(tmp_path):
    site = environment(tmp_path / "venv", trl="0.12.0") / "lib/python3.11/site-packages"
    before = versions_in([str(site)], LIBRARIES)
    (site / "peft-0.13.2.dist-info").mkdir()

    assert before == {"trl": "0.12.0"}
    assert versions_in([str(site)], LIBRARIES) == {"trl": "0.12.0", "peft": "0.13.2"}


def test_a_real_environment_is_read_and_its_python_never_started(tmp_path):
    """Made by `python -m venv`, with a wheel that pip put there: as importlib.metadata of that Python has it."""
    wheel = tmp_path / "trl-0.12.9-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("trl/__init__.py", "raise SystemExit('imported')\n")
        info = "trl-0.12.9.dist-info"
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: trl\nVersion: 0.12.9\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")  # fmt: skip
        archive.writestr(f"{info}/entry_points.txt", "[console_scripts]\ntrl = trl:main\n")
        archive.writestr(f"{info}/RECORD", "")
    venv, make = tmp_path / "venv", [sys.executable, "-m", "venv", "--without-pip"]
    subprocess.run([*make, str(venv)], check=True)
    pip = [sys.executable, "-m", "pip", "--python", str(venv), "install", "-q", "--no-index"]
    subprocess.run([*pip, "--no-deps", str(wheel)], check=True)
    told = subprocess.run(
        [venv / "bin/python", "-c", "import importlib.metadata as m; print(m.version('trl'))"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    (venv / "bin/python3").unlink()
    (venv / "bin/python3").write_text("#!/bin/sh\ntouch started\n")

    assert found(tmp_path, "venv/bin/trl", "sft") == {"trl": f"{told} by venv"}
    assert not (tmp_path / "started").exists()


def test_one_that_sees_the_system_has_what_the_system_has(tmp_path):
    environment(tmp_path / "usr", torch="2.5.1", trl="0.9.6")
    venv = environment(tmp_path / "venv", trl="0.12.0")
    settings = f"home = {tmp_path}/usr/bin\ninclude-system-site-packages = true\n"
    (venv / "pyvenv.cfg").write_text(settings)

    assert found(tmp_path, "venv/bin/accelerate", "launch", "train.py") == {
        "trl": "0.12.0 by venv",
        "torch": "2.5.1 by venv",
    }


def test_the_user_beats_an_environment_that_beats_pins_that_beat_what_is_found_here(tmp_path):
    (tmp_path / "requirements.txt").write_text("trl==0.9.6\npeft==0.13.0\ntransformers==4.44.0\n")
    venv = environment(tmp_path / "venv", trl="0.12.0", torch="2.5.1")
    path = {"PATH": f"{venv}/bin"}

    by_name = found(tmp_path, "venv/bin/accelerate", "launch", "train.py")
    assert by_name["trl"] == "0.12.0 by venv"
    assert by_name["peft"] == "0.13.0 by requirements.txt:2"
    on_path = found(tmp_path, "accelerate", "launch", "train.py", **path)
    assert on_path["trl"] == "0.9.6 by requirements.txt:1"
    assert on_path["torch"] == "2.5.1 by venv"
    started = LaunchCommand(("accelerate", "launch"), path, str(tmp_path), starts_here=True)
    assert libraries_of(started).version("trl") == "0.12.0"


def test_what_is_found_here_counts_only_where_the_repository_allows_it(tmp_path):
    environment(tmp_path / "venv", trl="0.12.0", torch="2.5.1", peft="0.13.0")
    (tmp_path / "requirements.txt").write_text("trl>=0.16\npeft>=0.13\n")
    path = {"PATH": f"{tmp_path}/venv/bin"}
    command = LaunchCommand(("accelerate", "launch", "train.py"), path, str(tmp_path))
    libraries = libraries_of(command)

    assert libraries.version("peft") == "0.13.0"
    assert not libraries.is_known("trl")
    assert "requirements.txt:1 asks for trl >=0.16" in libraries.of("trl").origin.reason


def test_a_launcher_that_is_nowhere_leaves_the_python_that_preflight_runs_in(tmp_path):
    launch = LaunchCommand(("accelerate", "launch", "train.py"), {}, str(tmp_path))

    assert environment_of(launch) is None
    assert {said.origin.where for said in libraries_of(launch).known.values()} <= {HERE}
