"""What the libraries say themselves, one experiment each, as JSON on stdout: run by test_node_refusals.py in a process of its own."""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

EXPERIMENTS: dict[str, Callable[[Path], Any]] = {}
CONFIG = {
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 512,
}


def experiment(function: Callable[[Path], Any]) -> Callable[[Path], Any]:
    EXPERIMENTS[function.__name__] = function
    return function


def refusal(call: Callable[[], Any]) -> str:
    """Return the error that a call stops with, empty where it does not."""
    try:
        call()
    except BaseException as error:
        return f"{type(error).__name__}: {error}"
    return ""


def tiny_model() -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(LlamaConfig(**CONFIG))


def trained(folder: Path, model: Any, **arguments: Any) -> Any:
    """Train three steps, with a checkpoint after each."""
    from transformers import Trainer, TrainingArguments

    rows = [{"input_ids": [1, 2, 3, 4], "labels": [1, 2, 3, 4]}] * 4
    settings = {"max_steps": 3, "save_steps": 1, "use_cpu": True, "report_to": "none", **arguments}
    args = TrainingArguments(output_dir=str(folder), disable_tqdm=True, **settings)
    trainer = Trainer(model=model, args=args, train_dataset=rows)
    trainer.train()
    return trainer


def size_of(folder: Path, *endings: str) -> int:
    return sum(
        f.stat().st_size for f in folder.rglob("*") if f.is_file() and f.name.endswith(endings)
    )


@experiment
def checkpoint_sizes(folder: Path) -> Any:
    from peft import LoraConfig, get_peft_model

    full, lora = folder / "full", folder / "lora"
    trained(full, tiny_model(), max_steps=1)
    adapter = LoraConfig(r=8, target_modules="all-linear", task_type="CAUSAL_LM")
    trained(lora, get_peft_model(tiny_model(), adapter), max_steps=1)
    return {
        path.name: [
            size_of(path / "checkpoint-1", ".safetensors"),
            size_of(path / "checkpoint-1", "optimizer.pt"),
        ]
        for path in (full, lora)
    }


@experiment
def rotation(folder: Path) -> Any:
    for step in (500, 1000):
        (folder / f"checkpoint-{step}").mkdir(parents=True)
        os.utime(folder / f"checkpoint-{step}", (step, step))
    trained(folder, tiny_model(), save_total_limit=2)
    return sorted(path.name for path in folder.glob("checkpoint-*"))


@experiment
def operator_without_ninja(folder: Path) -> Any:
    from deepspeed.ops.op_builder import CPUAdamBuilder

    path, os.environ["PATH"] = os.environ["PATH"], str(folder)
    try:
        return refusal(lambda: CPUAdamBuilder().load(verbose=False))
    finally:
        os.environ["PATH"] = path


@experiment
def operator_without_cuda(folder: Path) -> Any:
    import torch.utils.cpp_extension
    from deepspeed.ops.op_builder.builder import installed_cuda_version

    torch.utils.cpp_extension.CUDA_HOME = None  # as torch sets it where it finds no toolkit
    return refusal(installed_cuda_version)


@experiment
def interface_not_there(folder: Path) -> Any:
    import torch.distributed as dist

    os.environ["GLOO_SOCKET_IFNAME"] = "nosuch0"
    store = dist.HashStore()
    try:
        return refusal(lambda: dist.init_process_group("gloo", store=store, rank=0, world_size=1))
    finally:
        del os.environ["GLOO_SOCKET_IFNAME"]


@experiment
def offline(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return refusal(lambda: AutoModelForCausalLM.from_pretrained("nobody/nothing"))


@experiment
def offline_without_a_shard(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM, LlamaConfig

    repository = Path(os.environ["HF_HOME"]) / "hub" / "models--some--sharded"
    snapshot = repository / "snapshots" / "abc"
    LlamaConfig(**CONFIG, architectures=["LlamaForCausalLM"]).save_pretrained(snapshot)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    shards = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    index = {"metadata": {"total_size": 1}, "weight_map": shards}
    (snapshot / "model.safetensors.index.json").write_text(json.dumps(index))
    return refusal(lambda: AutoModelForCausalLM.from_pretrained("some/sharded"))


@experiment
def token(folder: Path) -> Any:
    from huggingface_hub import get_token

    found = [get_token()]
    (Path(os.environ["HF_HOME"]) / "token").write_text("hf_file\n")
    found.append(get_token())
    (Path(os.environ["HF_HOME"]) / "token").unlink()
    os.environ["HUGGING_FACE_HUB_TOKEN"] = "hf_env"
    found.append(get_token())
    del os.environ["HUGGING_FACE_HUB_TOKEN"]
    return found


@experiment
def loader_workers(folder: Path) -> Any:
    from torch.utils.data import DataLoader

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        DataLoader([1], num_workers=4096)
    return [str(warning.message) for warning in caught]


@experiment
def data_file_not_there(folder: Path) -> Any:
    from datasets import load_dataset

    return refusal(lambda: load_dataset("json", data_files=str(folder / "no.jsonl")))


@experiment
def fsdp_checkpoint(folder: Path) -> Any:
    from transformers import Trainer, TrainingArguments

    args = TrainingArguments(output_dir=str(folder), use_cpu=True, report_to="none")
    trainer = Trainer(model=tiny_model(), args=args)
    (folder / "written" / "pytorch_model_fsdp_0").mkdir(parents=True)
    (folder / "empty").mkdir()
    return [
        refusal(lambda: trainer._load_from_checkpoint(str(folder / "written"))),
        refusal(lambda: trainer._load_from_checkpoint(str(folder / "empty"))),
    ]


def zero_checkpoint(folder: Path, mode: str) -> None:
    """Save DeepSpeed's checkpoint with all ranks, or load it; a rank prints what it was refused."""
    import deepspeed
    import torch

    deepspeed.init_distributed("gloo")
    model = tiny_model().to(torch.bfloat16)
    config = {
        "train_micro_batch_size_per_gpu": 1,
        "zero_optimization": {"stage": 2},
        "bf16": {"enabled": True},
    }
    optimizer = torch.optim.AdamW(model.parameters())
    engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=config)
    ids = torch.arange(8)[None]
    engine.backward(engine(input_ids=ids, labels=ids).loss)
    engine.step()
    if mode == "save":
        engine.save_checkpoint(str(folder))
    else:
        print("REFUSED " + refusal(lambda: engine.load_checkpoint(str(folder))), flush=True)
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    if sys.argv[1] in ("save", "load"):
        zero_checkpoint(Path(sys.argv[2]), sys.argv[1])
    else:
        found = {}
        for name, run in EXPERIMENTS.items():
            place = Path(sys.argv[1]) / name
            place.mkdir(parents=True)
            found[name] = run(place)
        (Path(sys.argv[1]) / "found.json").write_text(json.dumps(found))
