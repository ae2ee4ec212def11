"""Asks the real LLaMA-Factory what it makes of configs; run by hand where it is installed, or its source is on PYTHONPATH.

`python tests/launchers/ask_llamafactory.py FOLDER FOLDER/asked.json` writes for every config of the folder either
`refused`, with the reason, or the values that its parser settles on. Nothing is downloaded and no model is built:
the checks of installed kernels and of the device's bf16 are answered with yes, and ranks are pretended.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import yaml

SETTLED = {
    "model": ("model_name_or_path", "flash_attn", "quantization_bit", "double_quantization"),
    "more": ("disable_gradient_checkpointing", "use_reentrant_gc", "use_unsloth_gc"),
    "data": ("cutoff_len", "packing", "neat_packing"),
    "finetuning": (
        "stage",
        "finetuning_type",
        "lora_rank",
        "lora_alpha",
        "lora_target",
        "pure_bf16",
    ),
    "training": (
        "per_device_train_batch_size",
        "gradient_accumulation_steps",
        "per_device_eval_batch_size",
        "eval_strategy",
        "bf16",
        "fp16",
        "optim",
        "max_grad_norm",
        "torch_compile",
    ),
}
"""Group of arguments -> those that decide a plan field."""


def ask(config: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return what the parser settles on, or why it refuses."""
    parser = importlib.import_module("llamafactory.hparams.parser")
    mode = importlib.import_module("transformers.training_args").ParallelMode.DISTRIBUTED
    arguments = importlib.import_module("transformers").TrainingArguments
    yes = mock.patch.multiple(
        parser,
        is_torch_bf16_gpu_available=lambda: True,
        check_version=lambda *_, **__: None,
        get_current_device=lambda: "cpu",
    )
    ranks = mock.patch.object(arguments, "parallel_mode", mode)
    os.chdir(folder)
    try:
        with yes, ranks:
            model, data, training, finetuning, _ = parser.get_train_args(
                {**config, "use_cpu": True}
            )
    except (ValueError, TypeError, NotImplementedError, AssertionError) as error:
        return {"refused": str(error).strip().splitlines()[-1][:160]}
    groups = {"model": model, "more": model, "data": data, "finetuning": finetuning}
    groups["training"] = training
    return {
        name: getattr(groups[group], name) for group, names in SETTLED.items() for name in names
    }


def trained_dtypes() -> dict[str, str]:
    """Return the dtype of what is trained in a bf16 model of two layers, by method."""
    torch = importlib.import_module("torch")
    transformers = importlib.import_module("transformers")
    hparams = importlib.import_module("llamafactory.hparams")
    adapter = importlib.import_module("llamafactory.model.adapter")
    config = transformers.LlamaConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
    )
    found = {}
    for method in ("full", "lora"):
        for is_pure in (False, True):
            model = transformers.LlamaForCausalLM(config).to(torch.bfloat16)
            finetuning = hparams.FinetuningArguments(finetuning_type=method, pure_bf16=is_pure)
            told = hparams.ModelArguments(model_name_or_path="none")
            model = adapter.init_adapter(model.config, model, told, finetuning, True)
            (dtype,) = {p.dtype for p in model.parameters() if p.requires_grad}
            found[f"{method}, pure_bf16" if is_pure else method] = str(dtype)
    return found


def main() -> None:
    """Write what LLaMA-Factory says of a folder's configs, one to a line."""
    folder = Path(sys.argv[1]).resolve()
    output = Path(sys.argv[2]).resolve()
    answers = {
        str(path.relative_to(folder)): ask(yaml.safe_load(path.read_text(encoding="utf-8")), folder)
        for path in sorted(folder.rglob("*.y*ml"))
        if path.name != "manifest.yaml" and "accelerate" not in path.parts
    }
    answers["trained_dtypes"] = trained_dtypes()
    rows = ",\n".join(
        f" {json.dumps(name)}: {json.dumps(said, default=str)}" for name, said in answers.items()
    )
    output.write_text(f"{{\n{rows}\n}}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
