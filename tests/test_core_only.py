"""A venv with the core alone runs the commands that a login node needs."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from preflight import __version__

EXAMPLES = Path(__file__).parent.parent / "examples"

TRAIN = shlex.split(
    "accelerate launch --config_file fsdp2.yaml train_trainer.py --model_name_or_path ."
    " --max_length 128 --per_device_train_batch_size 8 --output_dir out"
)
CHECK = ["check", "--device", "h100-sxm-80", "--format", "json", "--", *TRAIN]
FIX = ["fix", "--device", "h100-sxm-80", "--format", "json", "--", *TRAIN]
ESTIMATE = ["estimate", "--device", "h100-sxm-80", "--format", "json", "plan.yaml"]

PLAN = """
model: meta-llama/Llama-3.1-8B
engine: fsdp2
world_size: 8
shard_degree: 8
load_dtype: fp32
mixed_precision: bf16
micro_batch_size: 1
seq_len: 4096
activation_checkpointing: full
"""

RUN = """
import sys
from preflight.cli import main
code = main(sys.argv[1:])
heavy = {"torch", "accelerate", "transformers", "deepspeed", "peft", "trl"} & set(sys.modules)
sys.exit(99 if heavy else code)
"""


@pytest.mark.parametrize(
    "arguments",
    [CHECK, FIX, ESTIMATE, ["check", "--report", "page.html", *CHECK[1:]]],
    ids=["check", "fix", "estimate", "report"],
)
def test_the_core_alone_answers(arguments, core_bin, tmp_path):
    """No torch, no accelerate, no transformers: not importable here, so not needed."""
    for file in (EXAMPLES / "tiny-llama").iterdir():
        if file.is_file():
            shutil.copy(file, tmp_path)
    (tmp_path / "plan.yaml").write_text(PLAN)
    done = subprocess.run(
        [core_bin / "python", "-c", RUN, *arguments],
        cwd=tmp_path,
        env={"HOME": str(tmp_path), "PATH": str(core_bin)},
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["verdict"] == "fits"


def test_the_core_has_no_library_of_the_launch(core_bin):
    """Otherwise the test above would prove nothing."""
    probe = "import importlib.util as u; print([n for n in ('torch', 'accelerate', 'transformers') if u.find_spec(n)])"
    done = subprocess.run([core_bin / "python", "-c", probe], capture_output=True, text=True)

    assert done.stdout.strip() == "[]"


def test_the_core_alone_guards_a_cluster(core_bin, tmp_path):
    """The Lua files are in the wheel, and what they call needs no library of a launch."""
    guard = "preflight.commands.guard_helper"
    code = (
        "import sys; from preflight.slurm.guard_text import Settings, guard_text\n"
        f"from {guard} import main\n"
        "print(guard_text('cli_filter.lua', '/etc/slurm', Settings(), None))\n"
        "code = main(['--version'])\n"
        "heavy = {'torch', 'accelerate', 'transformers', 'lupa'} & set(sys.modules)\n"
        "sys.exit(99 if heavy else code)"
    )
    done = subprocess.run([core_bin / "python", "-I", "-c", code], capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    assert f'local HELPER = "{core_bin / "python"} -I -m {guard}"' in done.stdout
    assert done.stdout.endswith(f"preflight {__version__}\n")
