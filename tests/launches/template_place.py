"""A folder in which the templates can be launched: a model of two layers with weights, rows of text, a Slurm's helpers."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from harness import TINY_LLAMA, Workplace

from preflight.studies.template_files import template_text

QUICK = (
    *("--model_name_or_path", "tiny", "--dataset_name", "rows", "--max_length", "64"),
    *("--max_steps", "2", "--gradient_accumulation_steps", "2"),
)
"""Flags behind a template's own arguments: the tiny model, two steps."""
MOST_RANKS = 2
"""Of a launch on the CPU, unless a template needs more."""


def save_model(folder: Path) -> None:
    """Save a model of two layers and its tokenizer, as from_pretrained reads them."""
    sys.path.insert(0, str(TINY_LLAMA))
    try:
        from tiny_data import byte_tokenizer
    finally:
        sys.path.remove(str(TINY_LLAMA))
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    config = AutoConfig.from_pretrained(TINY_LLAMA)
    config.num_hidden_layers = 2
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)


def saved_tensors(folder: Path) -> dict[str, bool]:
    """Return the tensors of a saved model or adapter: name -> whether anything in it is not zero."""
    from safetensors import safe_open

    (path,) = folder.glob("*.safetensors")
    with safe_open(path, "pt") as file:
        return {name: bool(file.get_tensor(name).any()) for name in file.keys()}  # noqa: SIM118


def save_rows(folder: Path) -> None:
    """Write rows of text that are longer than the sequences of QUICK, in a token a byte."""
    folder.mkdir()
    row = json.dumps({"text": "a small cat sat on the mat " * 12})
    (folder / "train.jsonl").write_text(f"{row}\n" * 32)


def make_place(path: Path, model: Path, files: dict[str, str]) -> Workplace:
    """Return a folder with the model, rows, and files made of templates: name -> template."""
    path.mkdir(parents=True, exist_ok=True)
    (path / "tiny").symlink_to(model)
    save_rows(path / "rows")
    for name, template in files.items():
        text = template_text(template)
        if name == "accelerate.yaml" and "num_processes: 8 " in text:
            text = text.replace("num_processes: 8 ", f"num_processes: {MOST_RANKS} ")
        (path / name).write_text(text)
    return Workplace(path)
