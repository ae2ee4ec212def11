"""Optimizers by their class: the Trainer's name of each, and the states that an option of its constructor adds to them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

CLASSES = {
    "torch": {
        "AdamW": "adamw_torch",
        "Adam": "adamw_torch",
        "SGD": "sgd",
        "RMSprop": "rmsprop",
        "Adagrad": "adagrad",
        "Adafactor": "adafactor",
    },
    "transformers": {"AdamW": "adamw_hf", "Adafactor": "adafactor"},
    "bitsandbytes": {
        "AdamW8bit": "adamw_bnb_8bit",
        "Adam8bit": "adamw_bnb_8bit",
        "PagedAdamW8bit": "paged_adamw_8bit",
        "PagedAdamW": "paged_adamw_32bit",
        "PagedAdamW32bit": "paged_adamw_32bit",
        "Lion": "lion_32bit",
        "Lion8bit": "lion_8bit",
        "PagedLion8bit": "paged_lion_8bit",
    },
    "deepspeed": {"FusedAdam": "deepspeed_fused_adam", "DeepSpeedCPUAdam": "deepspeed_cpu_adam"},
    "apex": {"FusedAdam": "adamw_apex_fused"},
    "torchao": {"AdamW8bit": "adamw_torch_8bit", "AdamW4bit": "adamw_torch_4bit"},
}
"""Library -> class -> the Trainer's name of that optimizer (get_optimizer_cls_and_kwargs of transformers 5.24)."""
CONSTRUCTORS = frozenset(name for names in CLASSES.values() for name in names)
ADDING_STATES = {"SGD": ("momentum",), "RMSprop": ("momentum", "centered")}
"""Class of torch -> options that add a state (torch/optim/sgd.py, rmsprop.py, 2.13); amsgrad adds one to every Adam."""


def optimizer_of(path: str) -> str | None:
    """Return the Trainer's name of a class, `torch.optim.AdamW` or as its module has it; None where nothing prices it."""
    library, _, _ = path.partition(".")
    return CLASSES.get(library, {}).get(path.rpartition(".")[2])


def with_more_states(cls: str, options: Mapping[str, Any]) -> str:
    """Return `SGD with momentum` where the options of a constructor add states that its name does not price."""
    adding = ("amsgrad", *ADDING_STATES.get(cls, ()))
    return next((f"{cls} with {name}" for name in adding if options.get(name)), "")
