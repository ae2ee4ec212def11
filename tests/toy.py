"""A launcher of our own for tests of the command line: a script, and a project file that reads it.

`python worker.py --micro 4 --accumulate 1` holds 100 MiB per sample of its micro batch, besides a
tiny Llama. It says on stdout what it got, and exits with 7, so that a test sees that it ran.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

WORKER = """\
import json, os, sys
print(json.dumps({"argv": sys.argv[1:], "pid": os.getpid(), "env": os.environ.get("TOY", "")}))
sys.exit(7)
"""

HOOKS = '''\
"""Reads and writes `python worker.py --micro N --accumulate M`."""

from __future__ import annotations

from preflight.hookspecs import hookimpl
from preflight.launch import LaunchPlan, Origin
from preflight.memory import STEP_MOMENTS, MemoryTerm
from preflight.rewrite import Rewrite

TINY = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 64,
    "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 256, "max_position_embeddings": 256,
    "tie_word_embeddings": False, "torch_dtype": "float32",
}


@hookimpl
def preflight_read_launch(command):
    if "worker.py" not in command.argv:
        return None
    values = dict(zip(command.argv[2::2], command.argv[3::2]))
    return LaunchPlan(
        model="toy",
        model_config=TINY,
        micro_batch_size=int(values["--micro"]),
        gradient_accumulation_steps=int(values["--accumulate"]),
        seq_len=int(values["--length"]) if "--length" in values else None,
        sequence_kind="fixed",
        load_dtype="fp32",
        attention="sdpa",
        loss="full_logits",
        trainer="transformers",
        versions={"transformers": "5.24.0"},
        activation_checkpointing="full",
        origins={
            "micro_batch_size": Origin("--micro"),
            "load_dtype": Origin("default of the toy", assumed=True),
        },
        command=command,
    )


@hookimpl
def preflight_write_launch(before, after):
    micro, accumulate = after.micro_batch_size, after.gradient_accumulation_steps
    if before.with_edits(
        {"micro_batch_size": micro, "gradient_accumulation_steps": accumulate}
    ).to_dict() != after.to_dict():
        return None
    argv = list(before.command.argv)
    argv[argv.index("--micro") + 1] = str(micro)
    argv[argv.index("--accumulate") + 1] = str(accumulate)
    flags = (
        (f"--micro {before.micro_batch_size}", f"--micro {micro}"),
        (f"--accumulate {before.gradient_accumulation_steps}", f"--accumulate {accumulate}"),
    )
    return Rewrite(tuple(argv), env={"TOY": "rewritten"}, argv_diff=flags)


@hookimpl
def preflight_memory_terms(plan):
    samples = plan.micro_batch_size or 0
    yield MemoryTerm(
        name="toy samples",
        num_bytes=samples * 100 * 2**20,
        moments=frozenset(STEP_MOMENTS),
        formula=f"{samples} * 100 MiB",
        source="tests/toy.py",
    )
'''


def make(folder: Path) -> Path:
    """Write worker and project file into a folder."""
    (folder / "worker.py").write_text(WORKER)
    (folder / "preflight_hooks.py").write_text(HOOKS)
    return folder


def launch(micro: int, length: int | None = 32) -> list[str]:
    """Return the command that starts the worker."""
    argv = [sys.executable, "worker.py", "--micro", str(micro), "--accumulate", "1"]
    return argv if length is None else [*argv, "--length", str(length)]


def preflight(folder: Path, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run the real command in a folder."""
    return subprocess.run(
        [sys.executable, "-m", "preflight.cli", *args],
        cwd=folder,
        env={**os.environ, "COLUMNS": "100", **env},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
