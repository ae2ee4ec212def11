"""Every command with its answers, refusals and help, all in one process: a start of Python takes longer than most.

python every_command.py CASES.json    prints each answer after a line that names it
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
FOLDERS = ("1-fits", "2-rewritten", "3-refused", "4-bad-input", "5-qlora-suggested")
MARK = "=== "
ODD_CONFIG = "ein\xfc\u4e2d.yaml"
JOB = "#!/bin/bash\n#SBATCH --gres=gpu:8\nsrun torchrun train.py\n"
PLAN = "model: meta-llama/Llama-3.1-8B\nseq_len: 1024\nmicro_batch_size: 1\nadapter: {rank: 8}\n"
TINY = """\
model_config:
  {model_type: llama, hidden_size: 32, intermediate_size: 64, num_hidden_layers: 1, vocab_size: 64,
   num_attention_heads: 2, num_key_value_heads: 2}
micro_batch_size: 1
seq_len: 16
"""
BROKEN_PLUGIN = """\
from preflight.hookspecs import hookimpl

@hookimpl
def preflight_findings(plan, model, device):
    raise ValueError("this plugin is of no use, and says so in more words than a narrow terminal has room for")
"""
WORDS = """
nothing
accelerate launch train.py
check
check --devise x
check -- accelerate
check -- accelerate launch train.py
check --device t4-16 -- accelerate launch --num_procs 3 train.py
check --device t4-16 --allow nothing -- accelerate launch train.py
run --no-rewrite --device a100-sxm-40 -- accelerate launch --config_file fsdp2.yaml train.py
fix --device t4-16 -- accelerate launch --config_file missing.yaml train.py
estimate plan.yaml --device t4-16
estimate plan.yaml --device t4-16 -v
estimate missing.yaml
size meta-llama/Llama-3.1-8B --seq-len 1024 -v
size meta-llama/Llama-3.1-8B --compare Qwen/Qwen3-8B --seq-len 1024 --gpu t4-16
size nobody/nothing
diff plan.yaml tiny.yaml
diff plan.yaml plan.yaml --device t4-16 -v
diff plan.yaml missing.yaml
validate
validate runs.yaml
validate runs.yaml -v
validate runs.yaml --worst 2
validate --history
history
history --folder nowhere
probe
probe --nodes
guard
slurm
slurm nothing
slurm status
slurm install
slurm install --client --controller
slurm status --dir slurm
slurm uninstall --client --controller
slurm hook
slurm audit .
sbatch --policy missing.yaml job.sh
srun --policy missing.yaml --gpus=1 torchrun train.py
salloc --policy missing.yaml --gpus=1 torchrun train.py
explain
explain nothing
gpus
gpus 4090 -v
gpus nothing
models qwen3
models whisper -v
models nothing
hooks
scan
scan -v --device h100-sxm-80
scan missing
init
init --list
init --model meta-llama/Llama-3.1-8B --gpu h100-sxm-80 --num-gpus 8 --output new
init --model meta-llama/Llama-3.1-8B --gpu h100-sxm-80 --num-gpus 8 --print
init --model meta-llama/Llama-3.1-405B --gpu h100-sxm-80 --num-gpus 8 --output new
init --model meta-llama/Llama-3.1-8B --num-gpus 8
init --template plugins/check.py --output new
init --template plugins/check.py --output new
init --repo --print
init --repo
init --repo
completion bash
completion fish
completion
trace --plan tiny.yaml
trace --plan tiny.yaml -v
trace --plan missing.yaml
calibrate --no-such-option
"""
VERBATIM = ("init --repo --print", "completion bash", "completion fish", "slurm hook", "init --model meta-llama/Llama-3.1-8B --gpu h100-sxm-80 --num-gpus 8 --print")  # fmt: skip
"""Answers that are a file or a shell's commands: broken, they would be something else."""


def command_of(folder: str) -> list[str]:
    """Return the words of an example's command, without `preflight`."""
    text = (EXAMPLES / folder / "command.sh").read_text().partition("preflight ")[2]
    return shlex.split(text.replace("\\\n", " "))


def cases() -> dict[str, tuple[str, list[str]]]:
    """Return name -> the folder that a command is typed in, and its words."""
    from preflight.commands import COMMANDS
    from preflight.commands.explain import all_pages
    from preflight.commands.slurm import WORDS as SLURM_WORDS

    found = {"no words": (".", []), "--help": (".", ["--help"]), "--version": (".", ["--version"])}
    for folder in FOLDERS:
        name, *words = command_of(folder)
        for more in ([], ["-v"]):
            found[" ".join([folder, *more])] = folder, [name, *more, *words]
    for number, line in enumerate(WORDS.strip().split("\n")):
        name = line if line in VERBATIM or line not in found else f"{line} again, {number}"
        found[name] = "2-rewritten", line.split()
    found["a plugin that fails"] = "plugin", command_of("2-rewritten")
    odd = [ODD_CONFIG if word == "fsdp2.yaml" else word for word in command_of("2-rewritten")]
    found["a name of many alphabets"] = "2-rewritten", odd
    for page in all_pages():
        found[f"explain {page}"] = ".", ["explain", page]
    for command in (*COMMANDS, *(f"slurm {word}" for word in SLURM_WORDS)):
        found[f"{command} --help"] = ".", [*command.split(), "--help"]
    return found


def furnish(place: Path) -> None:
    """Write what the commands read."""
    for name in FOLDERS:
        shutil.copytree(EXAMPLES / name, place / name)
    shutil.copytree(EXAMPLES / "2-rewritten", place / "plugin")
    (place / "plugin" / "preflight_hooks.py").write_text(BROKEN_PLUGIN)
    here = place / "2-rewritten"
    (here / "slurm").mkdir()
    (here / "slurm" / "slurm.conf").write_text("JobSubmitPlugins=lua\n")
    launch = shlex.join(command_of("2-rewritten")[4:])
    for name, text in (
        ("job.sh", JOB),
        ("train.sh", f"{launch}\naccelerate launch\ntorchrun $UNKNOWN\n"),
        ("plan.yaml", PLAN),
        ("tiny.yaml", TINY),
        ("runs.yaml", _some_runs()),
    ):
        (here / name).write_text(text)
    config = (here / "fsdp2.yaml").read_text()
    (here / ODD_CONFIG).write_text(f"# \u8bad\u7ec3 \xfc\n{config}", encoding="utf-8")
    _save_records(str(place / "records"))


def _some_runs() -> str:
    """Return a file of every kind of measured run: compared or not, finished or not."""
    import yaml

    whole = yaml.safe_load((ROOT / "tests" / "measured" / "runs-dev.yaml").read_text())
    kinds: dict[tuple[object, ...], dict[str, object]] = {}
    for run in whole["runs"]:
        measured = run["measured"]
        key = measured["outcome"], measured.get("counter"), run.get("scored", True)
        kinds.setdefault(key, run)
    return json.dumps({**whole, "runs": list(kinds.values())})


def _save_records(folder: str) -> None:
    from preflight.records.found_corrections import MIN_RUNS
    from preflight.records.run_record import RunRecord
    from preflight.records.run_store import save
    from preflight.units import GIB, MIB

    done = RunRecord(
        run_id="run",
        rank=0,
        world_size=1,
        host="here",
        started="2026-11-25T10:00:00Z",
        outcome="done",
        num_steps=3,
        device={"name": "NVIDIA H100 80GB HBM3", "kind": "cuda", "capacity_bytes": 79 * GIB},
        phases={"forward": {"allocated": 20 * GIB, "reserved": 21 * GIB}},
        outside_bytes=430 * MIB,
        predicted={"forward": {"allocated": 21 * GIB, "reserved": 23 * GIB}},
        predicted_runtime={"CUDA context": 500 * MIB},
        plan={"model": "meta-llama/Llama-3.1-8B", "engine": "single", "micro_batch_size": 1},
        verdict="fits",
    )
    for number in range(MIN_RUNS):
        save(replace(done, run_id=f"run-{number}"), folder)
    save(replace(done, run_id="died", outcome="oom", failed_phase="backward"), folder)
    save(replace(done, run_id="lost", outcome="running"), folder)


def environment(place: Path, **more: str) -> Mapping[str, str]:
    """Return variables under which an answer is of the place and of no machine: no Slurm, no launcher on PATH."""
    kept = {name: os.environ[name] for name in ("HOME", "LD_LIBRARY_PATH") if name in os.environ}
    here = {
        "PATH": str(place / "bin"),
        "PREFLIGHT_RECORDS": str(place / "records"),
        "SLURM_CONF": str(place / "2-rewritten" / "slurm" / "slurm.conf"),
        "XDG_CACHE_HOME": str(place.parent.parent / "cache"),
    }
    return {**kept, **here, **more}


def main(path: str) -> None:
    """Run the cases of a file one after the other."""
    from preflight import cli
    from preflight.commands import progress

    # A busy machine is no reason for other lines.
    progress.SECONDS_BEFORE_PROGRESS = 3600.0
    place = os.path.dirname(os.path.abspath(path))
    with open(path, encoding="utf-8") as file:
        wanted = json.load(file)
    for name, (folder, words) in wanted.items():
        os.chdir(os.path.join(place, folder))
        sys.stdout.flush()
        sys.stderr.flush()
        os.write(1, f"{MARK}{name}\n".encode())
        try:
            cli.main([os.fsdecode(word.encode()) for word in words])
        except SystemExit as done:
            os.write(1, f"ended by SystemExit({done.code})\n".encode())


if __name__ == "__main__":
    main(sys.argv[1])
