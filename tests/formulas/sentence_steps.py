"""Take two steps of sentence-transformers' own trainers on the CPU and print rows for sentence_steps.jsonl.

Run in an environment with that sentence-transformers and the transformers of its day:
    PYTHONPATH=ROOT python ROOT/tests/formulas/sentence_steps.py FOLDER [NAME;NAME] >> ROOT/tests/formulas/sentence_steps.jsonl
"""

from __future__ import annotations

import json
import os
import random
import sys
from contextlib import nullcontext
from importlib.metadata import version
from pathlib import Path

import torch
import transformers
from accelerate.state import AcceleratorState
from allocations import Allocations
from datasets import Dataset
from objective_steps import counts_of, leave_heads, lora_of, mark_steps, tokenizer, trained

from preflight.trace.patches import cuda_dropout

LENGTH, VOCAB, ROWS, WORDS = 64, 2048, 64, 500
BERT = {
    "model_type": "bert", "hidden_size": 320, "num_hidden_layers": 3, "num_attention_heads": 5,
    "intermediate_size": 1280, "vocab_size": VOCAB, "max_position_embeddings": 512, "attention_probs_dropout_prob": 0.0,
    "pad_token_id": 0,
}  # fmt: skip
LLAMA = {
    "model_type": "llama", "hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4,
    "num_key_value_heads": 2, "intermediate_size": 704, "vocab_size": VOCAB, "pad_token_id": 0,
}  # fmt: skip
RANKING = "MultipleNegativesRankingLoss"
CASES: dict[str, dict] = {
    "pairs": {"loss": RANKING},
    "pairs, autocast": {"loss": RANKING, "autocast": True},
    "triplets": {"loss": RANKING, "texts": 3},
    "five texts, autocast": {"loss": RANKING, "texts": 5, "autocast": True},
    "pairs, checkpointed": {"loss": RANKING, "checkpointing": True, "length": 256},
    "scored pairs": {"loss": "CoSENTLoss"},
    "cosines": {"loss": "CosineSimilarityLoss", "autocast": True},
    "labels": {"loss": "SoftmaxLoss"},
    "margins": {"loss": "TripletLoss", "texts": 3},
    "nested": {"loss": RANKING, "nested": True},
    "cached": {"loss": "CachedMultipleNegativesRankingLoss", "micro": 32, "rows": 8},
    "cached, autocast": {
        "loss": "CachedMultipleNegativesRankingLoss", "micro": 32, "rows": 8, "texts": 3, "autocast": True,
    },
    "cached and nested": {"loss": "CachedMultipleNegativesRankingLoss", "micro": 32, "rows": 8, "nested": True},
    "many rows": {"loss": RANKING, "micro": 64, "length": 16},
    "decoder": {"loss": RANKING, "config": LLAMA, "load": "bf16"},
    "decoder, autocast": {"loss": RANKING, "config": LLAMA, "autocast": True},
    "decoder, LoRA": {"loss": RANKING, "config": LLAMA, "load": "bf16", "rank": 8},
    "decoder, checkpointed": {
        "loss": RANKING, "config": LLAMA, "load": "bf16", "checkpointing": True, "length": 256,
    },
}  # fmt: skip
DEFAULTS = {"texts": 2, "micro": 8, "length": LENGTH, "config": BERT, "load": "fp32"}


def case_of(name: str) -> dict:
    return {**DEFAULTS, **CASES[name]}


def data_of(case: dict) -> Dataset:
    """Return rows of texts that all fill the length, with what the loss compares them by."""
    text = lambda: " ".join(f"w{random.randrange(WORDS)}" for _ in range(case["length"]))  # noqa: E731
    columns = {f"text{n}": [text() for _ in range(ROWS)] for n in range(case["texts"])}
    if case["loss"] in ("CoSENTLoss", "CosineSimilarityLoss"):
        columns["score"] = [random.random() for _ in range(ROWS)]
    if case["loss"] == "SoftmaxLoss":
        columns["label"] = [random.randrange(3) for _ in range(ROWS)]
    return Dataset.from_dict(columns)


def trainer_of(case: dict, folder: Path):
    """Return the trainer of a case, as a script would make it."""
    import sentence_transformers
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
        losses,
    )

    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(**case["config"])
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[case["load"]]
    transformers.AutoModel.from_config(config).to(dtype).save_pretrained(folder)
    tokenizer(VOCAB).save_pretrained(folder)
    model = SentenceTransformer(str(folder), device="cpu", model_kwargs={"torch_dtype": dtype})
    model.max_seq_length = case["length"]
    if case.get("rank"):
        model.add_adapter(lora_of(case, "FEATURE_EXTRACTION"))
    words = {"mini_batch_size": case["rows"]} if "rows" in case else {}
    if case["loss"] == "SoftmaxLoss":
        width = case["config"]["hidden_size"]
        words = {"sentence_embedding_dimension": width, "num_labels": 3}
        if sentence_transformers.__version__ >= "6":
            words = {"embedding_dimension": width, "num_labels": 3}
    loss = getattr(losses, case["loss"])(model, **words)
    if case.get("nested"):
        width = case["config"]["hidden_size"]
        loss = losses.MatryoshkaLoss(model, loss, [width, width // 2, width // 4])
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(folder / "out"), per_device_train_batch_size=case["micro"], max_steps=2, use_cpu=True,
        report_to=[], save_strategy="no", optim="adamw_torch", bf16=case.get("autocast", False),
        gradient_checkpointing=case.get("checkpointing", False),
        gradient_checkpointing_kwargs={"use_reentrant": False}, dataloader_pin_memory=False, disable_tqdm=True,
        dataloader_drop_last=True,
    )  # fmt: skip
    return SentenceTransformerTrainer(
        model=model, args=arguments, train_dataset=data_of(case), loss=loss
    )


def counted(case: dict, folder: Path) -> dict[str, object]:
    """Return the peaks of the second step, and the rows that the model saw."""
    random.seed(0)
    os.environ.pop("ACCELERATE_MIXED_PRECISION", None)
    AcceleratorState._reset_state(True)
    trainer, allocations = trainer_of(case, folder), Allocations()
    trainer.autocast_smart_context_manager = nullcontext  # is there on a CPU alone
    trainer.compute_loss_context_manager = nullcontext
    mark_steps(trainer, allocations)
    with cuda_dropout():
        return trained(trainer, allocations)


def main() -> None:
    """Print a row for every case."""
    torch.set_num_threads(1)
    leave_heads()
    names = sys.argv[2].split(";") if len(sys.argv) > 2 else list(CASES)
    for number, name in enumerate(names):
        found = counted(case_of(name), Path(sys.argv[1]) / str(number))
        shapes, peaks = counts_of(found)
        row = {
            "sentence_transformers": version("sentence-transformers"),
            "transformers": transformers.__version__,
            "name": name,
            "forwards": len(shapes) // 2,
            "shape": shapes[-1],
            "peaks": peaks,
        }
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
