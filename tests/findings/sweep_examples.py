"""Checks every example launch of a library's folder, and counts what is called an error.

    python tests/findings/sweep_examples.py FOLDER...

A launch is a command in a README, a shell script or a docstring, or a config file started the way its
documentation starts it. Official examples work, so an error here is a false alarm or the library's own refusal:
each is printed for a person to look at.
"""

from __future__ import annotations

import collections
import contextlib
import io
import json
import os
import re
import shlex
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from preflight.cli import main as preflight

DEVICE = "h100-sxm-80"
LAUNCHERS = re.compile(
    r"^(?:\$ )?(?:[A-Z_]+=\S+ )*(?:(?:accelerate launch|torchrun|deepspeed (?=-|\S+\.py)|trl (?:sft|dpo|grpo|kto|reward|rloo)"
    r"|axolotl train|(?:llamafactory-cli|lmf) train|tune run|srun|python\d? -m (?!pytest|pip|build)\S+|python\d? \S+\.py)(?:(?<= )|(?= |$)))"
)
CONFIGS = (".yaml", ".yml", ".json")
PROSE = (".md", ".py", ".sh", ".rst", ".mdx", ".slurm")
SCRIPT = """\
from transformers import AutoModelForCausalLM, HfArgumentParser
from trl import ModelConfig, SFTConfig, SFTTrainer

config, model = HfArgumentParser((SFTConfig, ModelConfig)).parse_args_into_dataclasses()
SFTTrainer(model=AutoModelForCausalLM.from_pretrained(model.model_name_or_path), args=config).train()
"""
FLAGS = "--model_name_or_path meta-llama/Llama-3.1-8B --output_dir out --bf16 True"
DEEPSPEED_FLAGS = f"{FLAGS} --learning_rate 1e-5 --adam_beta1 0.9"
SHARDED_KEYS = (
    "fsdp_config",
    "deepspeed",
    "tensor_parallel_size",
    "context_parallel_size",
    "dp_shard_size",
)
"""Keys of an axolotl config that need several ranks: its documentation has eight GPUs in the node."""
UNKNOWN_MODEL = "not known here: model"
STAND_IN: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 16,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
}
"""Stands for a model that preflight has no shape of: its launch is looked at, its memory means nothing."""


@dataclass(frozen=True)
class Launch:
    """One example, started from the folder that its paths are relative to."""

    origin: str
    argv: tuple[str, ...]
    folder: Path


def launches(root: Path, script: Path) -> Iterator[Launch]:
    """Every launch that the files under `root` show or stand for."""
    for path in sorted(root.rglob("*")):
        if not path.is_file():
            continue
        if path.suffix in CONFIGS:
            command = command_of(path, script)
            if command:
                yield Launch(str(path), tuple(shlex.split(command)), folder_of(path, root))
        elif path.suffix in PROSE:
            yield from commands_in(path, root)


def command_of(path: Path, script: Path) -> str | None:
    """The command that starts a config file, told by its keys."""
    try:
        text = path.read_text()
        data: Any = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (ValueError, yaml.YAMLError):
        return None
    if not isinstance(data, dict):
        return None
    file = path.resolve()
    if "zero_optimization" in data:
        fp16 = (data.get("fp16") or {}).get("enabled") is True
        flags = DEEPSPEED_FLAGS.replace("--bf16", "--fp16") if fp16 else DEEPSPEED_FLAGS
        return f"deepspeed --num_gpus 8 {script} --deepspeed {file} {flags}"
    if "compute_environment" in data or "distributed_type" in data:
        return f"accelerate launch --config_file {file} {script} {FLAGS}"
    if "base_model" in data:
        sharded = any(data.get(key) for key in SHARDED_KEYS)
        return (
            f"axolotl train {file}{' --launcher torchrun -- --nproc_per_node=8' if sharded else ''}"
        )
    if "stage" in data and "model_name_or_path" in data:
        launcher = (
            "env FORCE_TORCHRUN=1 NPROC_PER_NODE=8 "
            if data.get("deepspeed") or data.get("fsdp")
            else ""
        )
        return f"{launcher}llamafactory-cli train {file}"
    written = re.search(r"^#\s*(tune run .*) --config \S+$", text, re.MULTILINE)
    if written:
        return f"{written[1]} --config {file}"
    return None


def folder_of(path: Path, root: Path) -> Path:
    """The nearest folder from which the config's own paths lead to files, `root` where none does."""
    named = re.findall(
        r"""(?:deepspeed|deepspeed_config_file): *["']?([\w./-]+\.json)""", path.read_text()
    )
    for folder in path.parents:
        if folder == root:
            break
        if named and (folder / named[0]).exists():
            return folder
    return root


def commands_in(path: Path, root: Path) -> Iterator[Launch]:
    """The launch commands that a file shows, continued lines joined."""
    lines = path.read_text(errors="replace").replace("\\\n", " ").splitlines()
    for line in lines:
        text = re.sub(r"\s+", " ", line).strip().lstrip("# ").removeprefix("$ ")
        if not LAUNCHERS.match(text):
            continue
        yield Launch(f"{path}: {text[:100]}", ("bash", "-c", text), root)


def checked(launch: Launch, *options: str) -> tuple[int, dict[str, Any], str]:
    """The exit code, the JSON answer and what was said on stderr."""
    out, err = io.StringIO(), io.StringIO()
    os.chdir(launch.folder)
    said = ["--format", "json", "--device", DEVICE, *options]
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = preflight(["check", *said, "--", *launch.argv])
    text = out.getvalue()
    return code, json.loads(text) if text.startswith("{") else {}, err.getvalue()


def errors_in(answer: dict[str, Any]) -> list[dict[str, Any]]:
    """What the answer calls an error, in its findings or as the reason why there is no answer."""
    found = [*answer.get("error", {}).get("problems", []), *answer.get("findings", [])]
    return [problem for problem in found if problem.get("severity", "error") == "error"]


def main() -> None:
    errors: collections.Counter[str] = collections.Counter()
    num_launches = num_refused = num_stand_ins = 0
    with tempfile.TemporaryDirectory() as scratch:
        script, stand_in = Path(scratch) / "train.py", Path(scratch) / "config.json"
        script.write_text(SCRIPT)
        stand_in.write_text(json.dumps(STAND_IN))
        for root in [Path(argument).resolve() for argument in sys.argv[1:]]:
            for launch in launches(root, script):
                num_launches += 1
                code, answer, said = checked(launch)
                wrong = errors_in(answer)
                if any(UNKNOWN_MODEL in problem["message"] for problem in wrong):
                    num_stand_ins += 1
                    code, answer, said = checked(launch, "--set", f"model_config={stand_in}")
                    wrong = errors_in(answer)
                errors.update(problem.get("id") or "no id" for problem in wrong)
                if wrong or code > 1:
                    num_refused += 1
                    print(f"{launch.origin}: exit {code} {said.strip()[:600]}")
                    for problem in wrong:
                        name = problem.get("id") or "no id"
                        print(f"  {name} {problem['where']}: {problem['message']}")
        os.chdir("/")
    print(
        f"{num_launches} launches ({num_stand_ins} with a stand-in model),"
        f" {num_refused} with an error or refused"
    )
    for name, count in errors.most_common():
        print(f"  {name} {count}")


if __name__ == "__main__":
    main()
