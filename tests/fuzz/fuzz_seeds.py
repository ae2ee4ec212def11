"""What the fuzzer starts from: launches, configs, scripts, plans, policies and datasets that are read without complaint."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml
from tiny_llama import TINY_LLAMA

TESTS = Path(__file__).resolve().parent.parent
CONFIGS = TESTS / "configs"
EXAMPLES = TESTS.parent / "examples"
MEASURED = TESTS / "measured" / "runs-dev.yaml"
TINY = {
    "architectures": ["LlamaForCausalLM"],
    **TINY_LLAMA,
    "tie_word_embeddings": False,
}
SCRIPT = """\
import argparse, os
import torch
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, Trainer, TrainingArguments
from peft import LoraConfig, get_peft_model
from settings import BATCH, get_lora

MODEL = os.environ.get("BASE", "model")

def parse():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bs", type=int, default=4)
    parser.add_argument("--lr", type=float, default=2e-5)
    parser.add_argument("--lora", action="store_true")
    return parser.parse_args()

def main():
    args = parse()
    common = dict(bf16=True, max_grad_norm=0.3)
    quantized = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_compute_dtype=torch.bfloat16)
    model = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.bfloat16)
    if args.lora:
        model = get_peft_model(model, LoraConfig(r=16, lora_alpha=2 * 16, target_modules=["q_proj"]))
    options = TrainingArguments(
        f"out/{MODEL}", per_device_train_batch_size=args.bs, gradient_accumulation_steps=64 // args.bs,
        optim="adamw_torch" if BATCH > 1 else "sgd", **common)
    options.gradient_checkpointing = True
    Trainer(model, options).train()

if __name__ == "__main__":
    main()
"""
SETTINGS = "BATCH = 2\ndef get_lora(r=8):\n    return dict(r=r)\n"
REPOSITORY = """\
device = "h100-sxm-80"
[plan]
seq_len = 2048
optimizer = "adamw_torch"
[flags]
"--bs" = "micro_batch_size"
[policy]
refuse = ["does_not_fit", "tight"]
"""
POLICY = "allow: [optimizer_8bit]\nforbid: [offload]\nrefuse: [does_not_fit]\nmargin_share: 0.05\n"
ROWS = '{"text": "a b c", "length": 12}\n{"text": "d", "length": 5}\n{"text": "", "length": 900}\n'
WRAPPERS = (
    "bash -c {text}",
    "srun -N 2 --ntasks-per-node=1 --gpus-per-node=4 {words}",
    "env A=1 NCCL_DEBUG=INFO {words}",
    "numactl -N 0 -m 0 {words}",
    "uv run {words}",
    "conda run -n train --no-capture-output {words}",
    "nohup {words}",
    "apptainer exec --nv -B /data:/data image.sif {words}",
    "docker run --gpus all -v /srv:/w -w /w image:1 {words}",
    "sh -c {text}",
    "srun bash -c {text}",
    "timeout 60 env B=2 bash -lc {text}",
)


@dataclass(frozen=True)
class Seed:
    """One call of preflight: a folder's files, the words after `preflight`, the variables."""

    name: str
    files: dict[str, bytes]
    own: tuple[str, ...]
    """`check`, options of preflight's own."""
    launch: tuple[str, ...] = ()
    """Words behind `--`."""
    env: dict[str, str] = field(default_factory=dict)


def seeds() -> list[Seed]:
    """Return every seed, always in the same order."""
    launches = [*_manifest(), *_examples(), *_scripts(), *_own_launches()]
    launches += [
        _wrapped(seed, form) for seed, form in zip(launches * 2, WRAPPERS * 40, strict=False)
    ]
    return [*launches, *_plans(), *_surroundings()]


def _manifest() -> list[Seed]:
    """Return the launches of every manifest in tests/configs, with the files that they name."""
    made: list[Seed] = []
    for path in sorted(CONFIGS.rglob("manifest*.yaml")):
        for name, case in yaml.safe_load(path.read_text()).items():
            if not isinstance(case, dict):
                continue
            folder = path.parent
            if "file" in case:
                folder = CONFIGS
                launch = ("bash", "-c", (CONFIGS / case["file"]).read_text())
            else:
                launch = tuple(shlex.split(case.get("argv", "")))
                if not launch or launch[0].startswith("-") or launch[0].endswith(".py"):
                    launch = ("accelerate", "launch", *launch)
            env = {key: str(value) for key, value in (case.get("env") or {}).items()}
            files = {
                **_named_files(CONFIGS, " ".join(launch)),
                **_named_files(folder, " ".join(launch)),
            }
            made.append(Seed(str(name), files, ("check",), launch, env))
    return made


def _named_files(folder: Path, text: str, depth: int = 0) -> dict[str, bytes]:
    """Return the files below a folder that a text names, and those that they name."""
    found: dict[str, bytes] = {}
    for name in re.findall(r"[\w./-]+\.(?:ya?ml|json|py|sh|toml)", text):
        path = folder / name
        if name not in found and not name.startswith(("/", "..")) and path.is_file():
            found[name] = path.read_bytes()
            if depth < 2:
                inner = found[name].decode("utf-8", "replace")
                found.update(_named_files(folder, inner, depth + 1))
    return found


def _examples() -> list[Seed]:
    made: list[Seed] = []
    for script in sorted(EXAMPLES.glob("*/command.sh")):
        text = script.read_text().replace("\\\n", " ")
        lines = [line for line in text.splitlines() if line.startswith("preflight ")]
        for line in lines[:1]:
            words = shlex.split(line)[1:]
            at = words.index("--") if "--" in words else len(words)
            files = {
                item.name: item.read_bytes()
                for item in sorted(script.parent.iterdir())
                if item.is_file() and item.name != "command.sh"
            }
            made.append(
                Seed(script.parent.name, files, ("check", *words[1:at]), tuple(words[at + 1 :]))
            )
    return made


def _scripts() -> list[Seed]:
    """Return a launch for every training script at hand."""
    made: list[Seed] = []
    for path in (*sorted(CONFIGS.rglob("*.py")), *sorted((EXAMPLES / "tiny-llama").glob("*.py"))):
        siblings = {
            item.name: item.read_bytes()
            for item in sorted(path.parent.iterdir())
            if item.suffix in (".py", ".json", ".yaml") and item.stat().st_size < 20_000
        }
        kept = {path.name: siblings.pop(path.name)}
        text = kept[path.name].decode()
        kept.update({name: data for name, data in siblings.items() if Path(name).stem in text})
        launch = ("accelerate", "launch", "--num_processes", "2", path.name)
        made.append(Seed(f"script-{path.name}", kept, ("check",), launch))
    return made


def _own_launches() -> list[Seed]:
    files = {
        "train.py": SCRIPT.encode(),
        "settings.py": SETTINGS.encode(),
        "model/config.json": json.dumps(TINY).encode(),
        "ds.json": (CONFIGS / "deepspeed" / "zero3_auto.json").read_bytes(),
    }
    own = ("check", "--device", "t4-16", "--set", "seq_len=512", "-v")
    lines = (
        "python train.py --bs 2 --lora",
        "torchrun --standalone --nproc_per_node=4 train.py --bs 2",
        "torchrun --nnodes 2 --nproc-per-node 8 --rdzv_backend c10d --rdzv_endpoint n0:1 train.py",
        "python -m torch.distributed.run --nproc_per_node gpu train.py",
        "deepspeed --num_gpus 4 train.py --deepspeed ds.json",
        "deepspeed --include localhost:0,1 --master_port 1 train.py --deepspeed_config ds.json",
        "accelerate launch --use_deepspeed --zero_stage 2 --num_processes 4 train.py",
        "accelerate launch --use_fsdp --fsdp_version 2 --num_processes 4 train.py",
        "trl sft --model_name_or_path model --dataset_name d --num_processes 2",
        "python -m trl.scripts.sft --model_name_or_path model --max_length 64 --use_peft",
    )
    return [Seed(f"own-{n}", files, own, tuple(shlex.split(line))) for n, line in enumerate(lines)]


def _wrapped(seed: Seed, form: str) -> Seed:
    words = shlex.join(seed.launch)
    launch = tuple(shlex.split(form.format(words=words, text=shlex.quote(words))))
    return replace(seed, name=f"{seed.name}-in-{form.split()[0]}", launch=launch)


def _plans() -> list[Seed]:
    runs = yaml.safe_load(MEASURED.read_text())
    models: dict[str, Any] = runs["models"]
    made: list[Seed] = []
    for run in runs["runs"]:
        plan = run["plan"]
        whole: dict[str, Any] = {"plan": plan}
        if plan.get("model") in models:
            whole["models"] = {plan["model"]: models[plan["model"]]}
        text = yaml.safe_dump(whole, sort_keys=False)
        made.append(
            Seed(
                f"plan-{run['id']}",
                {"plan.yaml": text.encode()},
                ("estimate", "plan.yaml", "--device", "h100-sxm-80"),
            )
        )
    for name, config in models.items():
        files = {"model/config.json": json.dumps(config, indent=1).encode(), "train.py": b""}
        words = "accelerate launch --num_processes 2 train.py --model_name_or_path model"
        words += " --per_device_train_batch_size 2 --max_length 128 --packing true --use_peft"
        own = ("check", "--device", "h100-sxm-80", "--format", "json")
        made.append(Seed(f"model-{name}", files, own, tuple(words.split())))
    return made


def _surroundings() -> list[Seed]:
    """Return seeds of the files beside a launch: preflight.toml, a policy, a dataset, `--set`."""
    base = _own_launches()[0]
    launch = ("accelerate", "launch", "--num_processes", "2", *base.launch[1:])
    made = []
    for name, files, own in (
        ("toml", {"preflight.toml": REPOSITORY}, ()),
        ("pyproject", {"pyproject.toml": "[tool.preflight]\ndevice = 't4-16'\n"}, ()),
        ("policy", {"policy.yaml": POLICY}, ("--policy", "policy.yaml", "--device", "t4-16")),
        ("rows", {"d.jsonl": ROWS}, ("--dataset", "d.jsonl", "--column", "length")),
        ("set", {}, ("--set", "seq_len=64", "--set", "adapter.rank=4", "--device", "A100:40")),
    ):
        kept = {**base.files, **{key: text.encode() for key, text in files.items()}}
        made += [Seed(f"{name}-{n}", kept, ("check", *own), launch) for n in range(8)]
    return made
