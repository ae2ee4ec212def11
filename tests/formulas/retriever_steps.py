"""Take two steps of FlagEmbedding's and Tevatron's own trainers on the CPU and print rows for retriever_steps.jsonl.

Run in an environment with one of them, and the transformers, accelerate, peft and datasets of its day:
    PYTHONPATH=ROOT python ROOT/tests/formulas/retriever_steps.py FOLDER NAME;NAME >> ROOT/tests/formulas/retriever_steps.jsonl
"""

from __future__ import annotations

import json
import os
import random
import sys
from contextlib import nullcontext
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import torch
import transformers
from accelerate.state import AcceleratorState
from allocations import Allocations
from objective_steps import counts_of, leave_heads, mark_steps, tokenizer, trained
from sentence_steps import BERT, LLAMA, ROWS, VOCAB, WORDS

from preflight.trace.patches import cuda_dropout

CASES: dict[str, dict] = {
    "embedder": {},
    "embedder, autocast": {"autocast": True},
    "embedder, checkpointed": {"checkpointing": True, "length": 256, "query": 256},
    "embedder, short queries": {"query": 32, "group": 4},
    "embedder, groups of 2": {"group": 2, "micro": 8, "autocast": True},
    "reranker": {"module": "reranker"},
    "reranker, autocast": {"module": "reranker", "autocast": True},
    "reranker, checkpointed": {"module": "reranker", "checkpointing": True, "length": 256},
    "decoder, LoRA": {"config": LLAMA, "rank": 8},
    "decoder, LoRA, autocast": {"config": LLAMA, "rank": 8, "autocast": True},
    "decoder, autocast": {"config": LLAMA, "autocast": True, "query": 32},
    "tevatron": {"module": "tevatron"},
    "tevatron, 16 bits": {"module": "tevatron", "config": LLAMA, "load": "bf16", "autocast": True},
    "tevatron, LoRA": {
        "module": "tevatron", "config": LLAMA, "load": "bf16", "rank": 8, "autocast": True, "query": 32,
    },
    "tevatron, LoRA, checkpointed": {
        "module": "tevatron", "config": LLAMA, "load": "bf16", "rank": 8, "autocast": True, "checkpointing": True,
    },
}  # fmt: skip
DEFAULTS = {
    "module": "embedder", "micro": 4, "group": 4, "length": 128, "query": 128, "config": BERT, "load": "fp32",
}  # fmt: skip


def case_of(name: str) -> dict:
    return {**DEFAULTS, **CASES[name]}


def folder_of(case: dict, folder: Path) -> Path:
    """Write a random model with its tokenizer, and rows whose texts all fill their length."""
    text = lambda: " ".join(f"w{random.randrange(WORDS)}" for _ in range(512))  # noqa: E731
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(**case["config"])
    transformers.AutoModel.from_config(config).save_pretrained(folder)
    tokenizer(VOCAB).save_pretrained(folder)
    rows = [
        {"query": text(), "pos": [text()], "neg": [text() for _ in range(case["group"])]}
        for _ in range(ROWS)
    ]
    if case["module"] == "tevatron":
        rows = [
            {
                "query": row["query"],
                "positive_passages": [{"text": each} for each in row["pos"]],
                "negative_passages": [{"text": each} for each in row["neg"]],
            }
            for row in rows
        ]
    data = folder / "data"
    data.mkdir(exist_ok=True)
    (data / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def arguments_of(case: dict, folder: Path, module) -> tuple:
    """Return the three dataclasses that FlagEmbedding's own parser would make."""
    is_reranker = case["module"] == "reranker"
    adapts = {"use_lora": "rank" in case, "lora_rank": case.get("rank", 8), "lora_dropout": 0.0}
    names = [name for name in dir(module) if name.endswith("Arguments") and name != "Arguments"]
    kinds = [
        next(getattr(module, name) for name in names if name.endswith(end))
        for end in ("ModelArguments", "DataArguments", "TrainingArguments")
    ]
    data = str(folder / "data")
    length = case["length"]
    lengths = {"query_max_len": case["query"], "passage_max_len": length}
    if is_reranker:
        lengths = {"query_max_len": length // 4, "passage_max_len": length - length // 4}
    return (
        kinds[0](model_name_or_path=str(folder), **(adapts if is_decoder(case) else {})),
        kinds[1](
            train_data=[data], train_group_size=case["group"], **lengths
        ),
        kinds[2](
            output_dir=str(folder / "out"), per_device_train_batch_size=case["micro"], max_steps=2, use_cpu=True,
            report_to=[], save_strategy="no", optim="adamw_torch", bf16=case.get("autocast", False),
            gradient_checkpointing=case.get("checkpointing", False),
            gradient_checkpointing_kwargs={"use_reentrant": False}, dataloader_pin_memory=False,
            disable_tqdm=True, dataloader_drop_last=True, remove_unused_columns=False,
        ),
    )  # fmt: skip


def is_decoder(case: dict) -> bool:
    return case["config"] is LLAMA


def trainer_of(case: dict, folder: Path):
    """Return the trainer that FlagEmbedding's runner makes."""
    kind, which = case["module"], "Decoder" if is_decoder(case) else "Encoder"
    module = import_module(f"FlagEmbedding.abc.finetune.{kind}")
    runner = import_module(f"FlagEmbedding.finetune.{kind}.{which.lower()}_only.base")
    if is_decoder(case):
        common = module
        module = SimpleNamespace(
            DecoderOnlyEmbedderModelArguments=runner.DecoderOnlyEmbedderModelArguments,
            AbsEmbedderDataArguments=common.AbsEmbedderDataArguments,
            AbsEmbedderTrainingArguments=common.AbsEmbedderTrainingArguments,
        )
    name = f"{which}Only{kind.title()}Runner"
    return getattr(runner, name)(*arguments_of(case, folder, module)).trainer


def tevatron_trainer(case: dict, folder: Path):
    """Return the trainer that Tevatron's driver makes, which is asked to train."""
    driver = import_module("tevatron.retriever.driver.train")
    made = []

    trainers = import_module("tevatron.retriever.trainer")

    class Kept(trainers.TevatronTrainer):
        def train(self, *_, **__):
            made.append(self)

    said = {
        "model_name_or_path": folder, "output_dir": folder / "out", "dataset_name": "json",
        "dataset_path": folder / "data" / "rows.jsonl", "train_group_size": case["group"],
        "query_max_len": case["query"], "passage_max_len": case["length"], "attn_implementation": "sdpa",
        "per_device_train_batch_size": case["micro"], "max_steps": 2, "use_cpu": True, "report_to": "none",
        "save_strategy": "no", "optim": "adamw_torch", "bf16": case.get("autocast", False),
        "gradient_checkpointing": case.get("checkpointing", False), "dataloader_pin_memory": False,
        "gradient_checkpointing_kwargs": '{"use_reentrant": false}', "disable_tqdm": True,
        "dataloader_drop_last": True, "remove_unused_columns": False,
    }  # fmt: skip
    if "rank" in case:
        said |= {"lora": True, "lora_r": case["rank"], "lora_dropout": 0.0}
    driver.Trainer = Kept
    Kept.save_model = lambda *_, **__: None
    sys.argv = [
        "train",
        *(word for name, value in said.items() for word in (f"--{name}", str(value))),
    ]
    driver.main()
    trainer = made[0]
    trainer.train = lambda *words, **more: super(Kept, trainer).train(*words, **more)
    return trainer


def counted(case: dict, folder: Path) -> dict[str, object]:
    """Return the peaks of the second step, and the rows that the model saw."""
    random.seed(0)
    os.environ.pop("ACCELERATE_MIXED_PRECISION", None)
    AcceleratorState._reset_state(True)
    make = tevatron_trainer if case["module"] == "tevatron" else trainer_of
    trainer, allocations = make(case, folder_of(case, folder)), Allocations()
    trainer.autocast_smart_context_manager = nullcontext  # is there on a CPU alone
    mark_steps(trainer, allocations)
    shapes: list[list[int]] = []

    def saw(module, args, kwargs):
        shapes.append(list(kwargs["input_ids"].shape))

    base = trainer.model.encoder if case["module"] == "tevatron" else trainer.model.model
    base.register_forward_pre_hook(saw, with_kwargs=True)
    register = trainer.model.register_forward_hook
    trainer.model.register_forward_hook = lambda *_, **__: None
    try:
        with cuda_dropout():
            found = trained(trainer, allocations)
    finally:
        trainer.model.register_forward_hook = register
    return {**found, "shapes": shapes}


def main() -> None:
    """Print a row for every case."""
    torch.set_num_threads(1)
    # its dataset asks which rank it is, as under torchrun
    torch.distributed.init_process_group(
        "gloo", rank=0, world_size=1, store=torch.distributed.HashStore()
    )
    leave_heads()
    top, names = Path(sys.argv[1]), sys.argv[2].split(";")
    for name in names:
        library = "tevatron" if case_of(name)["module"] == "tevatron" else "FlagEmbedding"
        folder = top / name.replace(" ", "_").replace(",", "")
        folder.mkdir(parents=True, exist_ok=True)
        found = counted(case_of(name), folder)
        shapes, peaks = counts_of(found)
        row = {
            library: "0.0.1" if library == "tevatron" else version("FlagEmbedding"),
            "transformers": transformers.__version__,
            "name": name,
            "shapes": shapes[len(shapes) // 2 :],
            "peaks": peaks,
        }
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
