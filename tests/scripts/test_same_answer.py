"""The same launch has the same answer, whatever number Python gives to a word today."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

METHODS = ("forward", "train", "eval", "reset_parameters", "extra_repr", "__len__", "__call__")
"""Of a class of torch's: anybody may call them."""
SCRIPT = "import torch\n\n\nclass Model(torch.nn.Module):\n" + "\n".join(
    f"    def {name}(self, x):\n        return x\n" for name in METHODS
)
LOOK = """\
import sys
from preflight.launch import LaunchCommand
from preflight.scripts.reach.reach import Reach

class Watched(Reach):
    def _look(self, block):
        print(*[node.lineno for node in block.body[:1]])
        super()._look(block)

Watched(LaunchCommand(("python", "train.py"), {}, sys.argv[1]), "train.py", None)
"""


@pytest.fixture
def lines_looked_at(tmp_path):
    (tmp_path / "train.py").write_text(SCRIPT + "\nmodel = Model()\n")

    def look(seed: str) -> list[int]:
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        done = subprocess.run(
            [sys.executable, "-c", LOOK, str(tmp_path)],
            env=environment, capture_output=True, text=True, check=True,
        )  # fmt: skip
        return [int(line) for line in done.stdout.split()]

    return look


def test_methods_are_followed_as_they_are_written(lines_looked_at):
    first = lines_looked_at("1")

    assert len(set(first)) > len(METHODS)
    assert all(lines_looked_at(seed) == first for seed in "23")
