"""Files of a repository that pin libraries, each as people write it, and which of them counts."""

from __future__ import annotations

from pathlib import Path

import pytest

from preflight.command import LaunchCommand
from preflight.libraries.pins import pinned_libraries
from preflight.libraries.requirement import requirement


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def pins(root: Path, *words: str, cwd: str = "") -> dict[str, tuple[str, str]]:
    command = LaunchCommand(("python", *words), {}, str(root / cwd))
    return {name: (str(pin), pin.where) for name, pin in pinned_libraries(command).items()}


SETUP = """\
from setuptools import setup
_deps = ["trl[vllm]==0.18.0", "transformers==4.52.3", "black>=24", "torch==2.6.0; sys_platform == 'darwin'"]
deps = {d.split("=")[0]: d for d in _deps}
setup(name="ours", install_requires=[deps["transformers"]], extras_require={"x": ["peft>=0.14"]})
"""
LOCK = """\
version = 1

[[package]]
name = "trl"
version = "0.19.1"
source = { registry = "https://pypi.org/simple" }
dependencies = [{ name = "transformers" }]

[[package]]
name = "torch"
version = "2.7.1"
resolution-markers = ["sys_platform == 'linux'"]

[[package]]
name = "torch"
version = "2.7.1+cu128"

[package.metadata]
requires-dist = [{ name = "peft", specifier = ">=0.14" }]
"""
POETRY = """\
[tool.poetry]
name = "ours"
version = "9.9.9"

[tool.poetry.dependencies]
python = "^3.10"
trl = "^0.12"
transformers = {version = "4.46.1", extras = ["torch"]}
peft = "*"
"""
PROJECT = """\
[build-system]
requires = ["torch==1.0.0"]

[project]
name = "ours"
dependencies = [
    "transformers>=4.46,<5",  # as tested
    'trl==0.12.0', "datasets",
]
[project.optional-dependencies]
fast = ["deepspeed~=0.16.2"]
[tool.ruff]
exclude = ["peft==0.1.0"]
"""
CONDA = """\
name: ours
dependencies:
  - python=3.11
  - pytorch::pytorch=2.4.0=py3.11_cuda12.1_cudnn9
  - pip:
      - transformers==4.44.2
      - trl>=0.9
"""
DOCKER = """\
FROM docker.io/pytorch/pytorch:2.5.1-cuda12.4-cudnn9-devel
RUN apt-get update && pip install --no-cache-dir \\
      "transformers>=4.48,<4.50" trl==0.15.2 && \\
      pip install peft==$PEFT
COPY . .
RUN echo accelerate==9.9.9
"""

FILES = {
    "requirements": (
        {
            "requirements.txt": "# libraries\n-r more/base.txt\ntrl==0.12.0  # as in the paper\ntransformers >= 4.46 , < 5\n",
            "more/base.txt": "--extra-index-url https://x\naccelerate==1.0.1 --hash=sha256:ab \\\n",
        },
        {
            "trl": ("==0.12.0", "requirements.txt:3"),
            "transformers": (">=4.46,<5", "requirements.txt:4"),
            "accelerate": ("==1.0.1", "more/base.txt:2"),
        },
    ),
    "addresses": (
        {
            "requirements.txt": "git+https://github.com/huggingface/transformers.git@v4.51.3\n"
            "trl @ git+https://github.com/huggingface/trl@69ad852e5654a77f1695eb4c608906fe0c7e8624\n"
            "https://download.pytorch.org/whl/cu121/torch-2.4.0%2Bcu121-cp311-cp311-linux_x86_64.whl\n"
        },
        {
            "transformers": ("==4.51.3", "requirements.txt:1"),
            "torch": ("==2.4.0+cu121", "requirements.txt:3"),
        },
    ),
    "setup.py": (
        {"setup.py": SETUP},
        {
            "trl": ("==0.18.0", "setup.py:2"),
            "transformers": ("==4.52.3", "setup.py:2"),
            "peft": (">=0.14", "setup.py:4"),
        },
    ),
    "setup.cfg": (
        {"setup.cfg": "[options]\ninstall_requires =\n    trl>=0.9.6\n    torch\n[flake8]\nx = peft==1\n"},
        {"trl": (">=0.9.6", "setup.cfg:3")},
    ),
    "uv.lock": (
        {"uv.lock": LOCK},
        {"trl": ("==0.19.1", "uv.lock:5"), "torch": ("==2.7.1 or ==2.7.1+cu128", "uv.lock:11")},
    ),
    "poetry": (
        {"pyproject.toml": POETRY},
        {
            "trl": (">=0.12,==0.12.*", "pyproject.toml:7"),
            "transformers": ("==4.46.1", "pyproject.toml:8"),
        },
    ),
    "project": (
        {"pyproject.toml": PROJECT},
        {
            "transformers": (">=4.46,<5", "pyproject.toml:7"),
            "trl": ("==0.12.0", "pyproject.toml:8"),
            "deepspeed": (">=0.16.2,==0.16.*", "pyproject.toml:11"),
        },
    ),
    "conda": (
        {"environment.yml": CONDA, "docs.yml": "dependencies:\n  - peft==0.1\n"},
        {
            "torch": ("==2.4.0", "environment.yml:4"),
            "transformers": ("==4.44.2", "environment.yml:6"),
            "trl": (">=0.9", "environment.yml:7"),
        },
    ),
    "Dockerfile": (
        {"docker/Dockerfile": DOCKER},
        {
            "torch": ("==2.5.1", "docker/Dockerfile:1"),
            "transformers": (">=4.48,<4.50", "docker/Dockerfile:3"),
            "trl": ("==0.15.2", "docker/Dockerfile:3"),
        },
    ),
    "README": (
        {
            "README.md": "# X\n```bash\nconda create -n x\npip install -U transformers==4.43.4 \\\n  'trl==0.9.6'\n```\n"
            "Runs with torch==2.1.2 too.\nOr `pip install peft==0.9.0`.\n",
            "requirements-vllm.txt": "trl==0.12.0\n",
        },
        {"transformers": ("==4.43.4", "README.md:4"), "trl": ("==0.12.0", "requirements-vllm.txt:1"),
         "peft": ("==0.9.0", "README.md:8")},
    ),
    "a README that tells of several": (
        {"README.md": "pip install transformers==4.56.1\n\npip install transformers==4.57.0\n"},
        {"transformers": ("==4.56.1 or ==4.57.0", "README.md:1")},
    ),
    "Pipfile.lock": (
        {"Pipfile.lock": '{"default": {\n "trl": {\n  "hashes": ["x"],\n  "version": "==0.9.6"\n }\n}}'},
        {"trl": ("==0.9.6", "Pipfile.lock:4")},
    ),
    "a library's own repository": (
        {
            "pyproject.toml": '[project]\nname = "trl"\ndynamic = ["version"]\ndependencies = ["transformers>=4.56.2"]\n',
            "VERSION": "1.10.0.dev0\n",
        },
        {"trl": ("==1.10.0.dev0", "VERSION:1"), "transformers": (">=4.56.2", "pyproject.toml:4")},
    ),
    "a library's own repository, with versions of other packages in it": (
        {
            "pyproject.toml": '[project]\nname = "verl"\ndynamic = ["version"]\n[[tool.uv.dependency-metadata]]\nname = "megatron-core"\nversion = "0.18.0"\n',
            "verl/version/version": "0.10.0.dev\n",
        },
        {"verl": ("==0.10.0.dev", "verl/version/version:1")},
    ),
    "a library's own repository, with a file of its version alone": (
        {"setup.py": "setup(name='verl', version=open(path).read())\n", "verl/version/version": "0.3.1.dev\n"},
        {"verl": ("==0.3.1.dev", "verl/version/version:1")},
    ),
    "unsure": (
        {
            "requirements-cpu.txt": "torch==1.0\n",
            "requirements-dev.txt": "trl==0.1\n",
            "setup.py": "import (",
            "pyproject.toml": "[project\n",
            "uv.lock": "\0\1",
        },
        {},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_read_as_people_write_it(name, tmp_path):
    files, expected = FILES[name]

    assert pins(write(tmp_path, files)) == expected


def test_a_repository_is_never_run(tmp_path):
    write(tmp_path, {"setup.py": "open('ran', 'w')\nimport os\nos.abort()\nx = 'trl==0.12.0'\n"})

    assert pins(tmp_path) == {"trl": ("==0.12.0", "setup.py:4")}
    assert not (tmp_path / "ran").exists()


def test_the_files_nearest_to_the_script_count_up_to_the_top_of_the_repository(tmp_path):
    write(
        tmp_path,
        {
            "requirements.txt": "peft==0.1.0\n",
            "repo/.git/HEAD": "",
            "repo/requirements.txt": "trl==0.12.0\ntransformers==4.46.1\n",
            "repo/examples/sft/requirements.txt": "trl==0.15.2\n",
            "repo/examples/sft/train.py": "",
        },
    )
    found = pins(tmp_path, "examples/sft/train.py", cwd="repo")

    assert found["trl"] == ("==0.15.2", "examples/sft/requirements.txt:1")
    assert found["transformers"] == ("==4.46.1", "requirements.txt:2")
    assert "peft" not in found


def test_without_a_repository_nothing_above_the_launch_counts(tmp_path):
    write(tmp_path, {"requirements.txt": "trl==0.12.0\n", "run/train.py": ""})

    assert pins(tmp_path, "train.py", cwd="run") == {}


def test_a_lock_beats_requirements_and_these_the_parts_of_a_repository(tmp_path):
    write(
        tmp_path,
        {
            "uv.lock": LOCK,
            "requirements.txt": "trl==0.9.6\ntransformers>=4.46\n",
            "requirements/vllm.txt": "transformers==4.51.1\npeft==0.15.0\n",
            "requirements-train.txt": "transformers==4.50.0\n",
        },
    )
    found = pins(tmp_path)

    assert found["trl"] == ("==0.19.1", "uv.lock:5")
    assert found["transformers"] == (">=4.46", "requirements.txt:2")
    assert found["peft"] == ("==0.15.0", "requirements/vllm.txt:2")


def test_a_changed_file_is_read_again(tmp_path):
    write(tmp_path, {"requirements.txt": "trl==0.12.0\n"})
    before = pins(tmp_path)
    write(tmp_path, {"requirements.txt": "trl==0.9.6 # older\n"})

    assert before != pins(tmp_path) == {"trl": ("==0.9.6", "requirements.txt:1")}


@pytest.mark.parametrize(
    "text",
    ["torchvision==0.1", "trl-extra==1", "datasets", "--index-url https://x", "", "# trl==1", "trl==1; sys_platform == 'win32'"],
)  # fmt: skip
def test_what_is_none_of_our_libraries_is_no_requirement(text):
    assert requirement(text) is None
