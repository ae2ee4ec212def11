"""Take two steps of FlagEmbedding's own trainers on the CPU and print rows for flag_steps.jsonl.

Run in an environment with a FlagEmbedding, and the transformers, accelerate, peft and datasets of its day:
    PYTHONPATH=ROOT python ROOT/tests/formulas/flag_steps.py FOLDER [NAME;NAME] >> ROOT/tests/formulas/flag_steps.jsonl
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

import objective_steps
import torch
import transformers
from accelerate.state import AcceleratorState
from allocations import Allocations
from objective_steps import mark_steps, tokenizer, trained
from sentence_steps import BERT, ROWS, VOCAB, WORDS

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
}
DEFAULTS = {"module": "embedder", "micro": 4, "group": 4, "length": 128, "query": 128}


def case_of(name: str) -> dict:
    return {**DEFAULTS, **CASES[name]}


def folder_of(case: dict, folder: Path) -> Path:
    """Write a random model with its tokenizer, and rows whose texts all fill their length."""
    text = lambda: " ".join(f"w{random.randrange(WORDS)}" for _ in range(512))  # noqa: E731
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(**BERT)
    transformers.AutoModel.from_config(config).save_pretrained(folder)
    tokenizer(VOCAB).save_pretrained(folder)
    rows = [
        {"query": text(), "pos": [text()], "neg": [text() for _ in range(case["group"])]}
        for _ in range(ROWS)
    ]
    data = folder / "data"
    data.mkdir(exist_ok=True)
    (data / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def arguments_of(case: dict, folder: Path, module) -> tuple:
    """Return the three dataclasses that FlagEmbedding's own parser would make."""
    is_reranker = case["module"] == "reranker"
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
        kinds[0](model_name_or_path=str(folder)),
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


def trainer_of(case: dict, folder: Path):
    """Return the trainer that FlagEmbedding's runner makes."""
    kind = case["module"]
    module = import_module(f"FlagEmbedding.abc.finetune.{kind}")
    runner = import_module(f"FlagEmbedding.finetune.{kind}.encoder_only.base")
    name = f"EncoderOnly{kind.title()}Runner"
    return getattr(runner, name)(*arguments_of(case, folder, module)).trainer


def counted(case: dict, folder: Path) -> dict[str, object]:
    """Return the peaks of the second step, and the rows that the model saw."""
    random.seed(0)
    os.environ.pop("ACCELERATE_MIXED_PRECISION", None)
    AcceleratorState._reset_state(True)
    trainer, allocations = trainer_of(case, folder_of(case, folder)), Allocations()
    trainer.autocast_smart_context_manager = nullcontext  # is there on a CPU alone
    mark_steps(trainer, allocations)
    shapes: list[list[int]] = []

    def saw(module, args, kwargs):
        shapes.append(list(kwargs["input_ids"].shape))

    base = trainer.model.model
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
    objective_steps.fused_head = SimpleNamespace(
        head_like_cuda=lambda cast: nullcontext(), _every_position_counts=nullcontext
    )
    for name in sys.argv[2].split(";") if len(sys.argv) > 2 else list(CASES):
        folder = Path(sys.argv[1]) / name.replace(" ", "_").replace(",", "")
        folder.mkdir(parents=True, exist_ok=True)
        found = counted(case_of(name), folder)
        peaks, shapes = found["peaks"], found["shapes"]
        assert isinstance(peaks, dict)
        assert isinstance(shapes, list)
        row = {
            "FlagEmbedding": version("FlagEmbedding"),
            "transformers": transformers.__version__,
            "name": name,
            "shapes": shapes[len(shapes) // 2 :],
            "peaks": {part: peak for part, peak in peaks.items() if part != "start"},
        }
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
