"""Run steps of torchtune's knowledge distillation on the CPU, and print a row of what was alive for each case.

Run in an environment with torchtune 0.6.1:
    PYTHONPATH=ROOT:ROOT/tests/formulas python ROOT/tests/formulas/tune_teacher_steps.py >> tune_teachers.jsonl
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from allocations import Allocations

STUDENT = {
    "num_layers": 2,
    "num_heads": 4,
    "num_kv_heads": 2,
    "embed_dim": 128,
    "intermediate_dim": 384,
}
TEACHER = {
    "num_layers": 4,
    "num_heads": 8,
    "num_kv_heads": 2,
    "embed_dim": 512,
    "intermediate_dim": 1024,
}
CASES: dict[str, dict[str, Any]] = {
    "forward": {},
    "forward, more words": {"words": 32768},
    "forward, fp32": {"dtype": "fp32"},
    "forward, checkpointed": {"checkpointing": True},
    "forward, a wide teacher": {"words": 512, "rows": 2, "length": 256},
    "reverse": {"kind": "ReverseKL"},
    "symmetric": {"kind": "SymmetricKL"},
    "forward, whole": {"loss": "full_logits"},
    "reverse, whole": {"kind": "ReverseKL", "loss": "full_logits"},
    "symmetric, whole": {"kind": "SymmetricKL", "loss": "full_logits"},
    "forward, whole, fp32": {"loss": "full_logits", "dtype": "fp32"},
    "forward, four chunks": {"chunks": 4},
}  # fmt: skip
DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


def case_of(name: str) -> dict[str, Any]:
    """Return everything of a case that its name does not say."""
    common = {
        "dtype": "bf16",
        "words": 8192,
        "rows": 2,
        "length": 128,
        "rank": 8,
        "kind": "ForwardKL",
    }
    return {**common, "loss": "chunked_ce", "chunks": 8, "checkpointing": False, **CASES[name]}


KEYS = {
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "num_kv_heads": "num_key_value_heads",
    "embed_dim": "hidden_size",
    "intermediate_dim": "intermediate_size",
}
"""Argument of torchtune's builder -> key of a config.json."""


def configs_of(case: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the shapes of student and teacher, as a config.json says them."""
    common = {"model_type": "llama", "vocab_size": case["words"], "tie_word_embeddings": False}
    return [
        {**common, **{KEYS[name]: size for name, size in sizes.items()}}
        for sizes in (STUDENT, TEACHER)
    ]


def divergence_of(case: dict[str, Any]) -> str:
    """Return the name of torchtune's class."""
    return case["kind"] + ("WithChunkedOutputLoss" if case["loss"] == "chunked_ce" else "Loss")


def recipe_class(recipe: str, name: str) -> Any:
    """Return a recipe's class, of a folder that is no package."""
    import torchtune

    folder = Path(torchtune.__file__).parents[1] / "recipes"
    path = folder / f"{recipe}.py"
    spec = importlib.util.spec_from_file_location("recipe", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, name)


def recipe_of(case: dict[str, Any]) -> Any:
    """Return torchtune's recipe with small models in place of a checkpoint's."""
    from torchtune import modules, training
    from torchtune.models.llama3 import llama3, lora_llama3
    from torchtune.modules import loss as losses
    from torchtune.modules.peft import get_adapter_params, set_trainable_params

    kind = recipe_class("knowledge_distillation_single_device", "KDRecipeSingleDevice")
    recipe = kind.__new__(kind)
    more = {"vocab_size": case["words"], "max_seq_len": 512}
    with training.set_default_dtype(DTYPES[case["dtype"]]):
        student = lora_llama3(
            ["q_proj", "v_proj"], lora_rank=case["rank"], lora_alpha=16, **STUDENT, **more
        )
        recipe._teacher_model = llama3(**TEACHER, **more).eval()
    set_trainable_params(student, get_adapter_params(student))
    if case["checkpointing"]:
        training.set_activation_checkpointing(
            student, auto_wrap_policy={modules.TransformerSelfAttentionLayer}
        )
    recipe._model = student
    if case["loss"] == "chunked_ce":
        recipe._loss_fn = losses.CEWithChunkedOutputLoss(case["chunks"])
        recipe._kd_loss_fn = getattr(losses, divergence_of(case))(case["chunks"])
        student.set_num_output_chunks(case["chunks"])
        recipe._teacher_model.set_num_output_chunks(case["chunks"])
    else:
        recipe._loss_fn = torch.nn.CrossEntropyLoss()
        recipe._kd_loss_fn = getattr(losses, divergence_of(case))()
    recipe.ignore_labels_cache = torch.full((case["rows"], 1), -100)
    return recipe


def counted(case: dict[str, Any]) -> dict[str, int]:
    """Return the most that was alive while the loss was taken and in its backward, all parameters among it."""
    recipe, seen = recipe_of(case), Allocations()
    optimizer = torch.optim.AdamW([p for p in recipe._model.parameters() if p.requires_grad])
    tokens = torch.randint(0, case["words"], (case["rows"], case["length"]))
    with seen:
        for model in (recipe._model, recipe._teacher_model):
            for tensor in model.parameters():
                seen.track(tensor)
        for _ in range(2):
            seen.mark("loss")
            of_class, of_teacher = recipe._loss_step({"tokens": tokens, "labels": tokens.clone()})
            seen.mark("backward")
            (0.5 * of_class + 0.5 * of_teacher).backward()
            seen.mark("optimizer")
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
    return {part: seen.peaks[part] for part in ("loss", "backward")}


def print_rows(names: Iterable[str], peaks_of: Callable[[str], dict[str, int]]) -> None:
    """Print a row for each case, with the release that counted it."""
    import torchtune

    torch.set_num_threads(1)
    torch.manual_seed(0)
    version = torchtune.__version__.partition("+")[0]
    for name in names:
        row = {"name": name, "torchtune": version, "peaks": peaks_of(name)}
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    print_rows(CASES, lambda name: counted(case_of(name)))
