"""A model that trains in a blink, and what the tests of the embedded doors start."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
BIN = Path(sys.executable).parent
CONFIG = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 128,
    "max_position_embeddings": 64,
    "tie_word_embeddings": False,
}
LENGTH = 32
WORKER = os.pathsep.join(map(str, (Path(__file__).parent, ROOT / "tests" / "launches" / "worker")))
"""PYTHONPATH of a launch whose processes are those of tests/launches: patched for the CPU, or forked."""


def model():
    """Return a Llama of 37,000 parameters with random weights."""
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(LlamaConfig(**CONFIG))


def rows(count: int = 64) -> list[dict[str, object]]:
    """Return rows of LENGTH tokens, the same ones every time."""
    import torch

    generator = torch.Generator().manual_seed(0)
    made = [torch.randint(0, 128, (LENGTH,), generator=generator) for _ in range(count)]
    return [{"input_ids": row, "labels": row} for row in made]


def arguments(folder: Path | str, **more: object):
    """Return TrainingArguments for two steps on the CPU."""
    from transformers import TrainingArguments

    values = {
        "output_dir": str(folder),
        "per_device_train_batch_size": 2,
        "max_steps": 2,
        "use_cpu": True,
        "report_to": "none",
        "save_strategy": "no",
        "disable_tqdm": True,
        "dataloader_num_workers": 0,
    }
    return TrainingArguments(**{**values, **more})  # type: ignore[arg-type]


def environment(folder: Path, **variables: str) -> dict[str, str]:
    """Return the variables of a started program: the tools of this environment, no GPU, records of its own."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PREFLIGHT", "ACCELERATE"))}
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        kept.pop(name, None)
    return {
        **kept,
        "PATH": os.pathsep.join([str(BIN), kept.get("PATH", "")]),
        "PYTHONPATH": str(Path(__file__).parent),
        "CUDA_VISIBLE_DEVICES": "",
        "DS_ACCELERATOR": "cpu",
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "GLOO_SOCKET_IFNAME": "lo",
        "PREFLIGHT_RECORDS": str(folder / "records"),
        **variables,
    }


class Done:
    """How a program ended, and what it left running."""

    def __init__(self, code: int, stdout: str, stderr: str, left: list[int]) -> None:
        self.code, self.stdout, self.stderr, self.left = code, stdout, stderr, left


def start(folder: Path, argv: list[str], **variables: str) -> Done:
    """Run a program to its end in a folder; processes of it that are alive afterwards are named and ended."""
    from harness import pids_of_run  # not for what is started, which imports this file too

    run_id = uuid.uuid4().hex
    done = subprocess.run(
        argv,
        cwd=folder,
        env=environment(folder, PREFLIGHT_TEST_RUN=run_id, **variables),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=240,
    )
    left = pids_of_run(run_id)
    for pid in left:
        os.kill(pid, 9)
    return Done(done.returncode, done.stdout, done.stderr, left)
