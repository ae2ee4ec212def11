"""A LaunchPlan from the objects of a running script: model, training arguments, Accelerator, optimizer."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from preflight.embedded.live_engine import ACCELERATOR, engine_fields
from preflight.embedded.live_model import MODEL, model_fields, num_elements, unwrapped
from preflight.errors import Problem
from preflight.formulas.layers.kernels import liger_kernels
from preflight.formulas.optimizer_classes import optimizer_of, with_more_states
from preflight.launch import LaunchPlan, Origin, TrainerFacts
from preflight.values import dataclass
from preflight.versions.installed import installed_versions, versions_used

LIBRARIES = ("accelerate", "bitsandbytes", "deepspeed", "peft", "torch", "transformers", "trl")
ARGUMENTS = "the training arguments"


@dataclass(frozen=True)
class LiveSource:
    """What a live plan has in the place of a launch's files: nobody can write it back."""


def live_plan(
    model: Any,
    *,
    args: Any = None,
    accelerator: Any = None,
    optimizer: Any = None,
    trainer: Any = None,
    micro_batch_size: int | None = None,
    seq_len: int | None = None,
    num_processes: int | None = None,
) -> LaunchPlan:
    """Return the plan of a training that is about to start in this process, with the origin of each value."""
    found: dict[str, tuple[Any, Origin]] = {}

    def put(fields: Mapping[str, Any], origin: Origin) -> None:
        found.update((name, (value, origin)) for name, value in fields.items())

    kind = _trainer_kind(args, trainer)
    put(model_fields(model), MODEL)
    put(engine_fields(accelerator, args, num_processes), ACCELERATOR if accelerator else _ENGINE)
    for name, value in _argument_fields(args, kind).items():
        put({name: value[0]}, Origin(f"{ARGUMENTS}: {value[1]}"))
    optimizer = _unwrapped_optimizer(optimizer)
    put(_optimizer_fields(optimizer), Origin("the live optimizer"))
    given = {"micro_batch_size": micro_batch_size, "seq_len": seq_len}
    put({n: v for n, v in given.items() if v is not None}, Origin("the caller"))
    versions = versions_used(installed_versions())
    values = {name: value for name, (value, _) in found.items()}
    origins = {name: origin for name, (_, origin) in found.items()}
    for name in ("optimizer", "gradient_accumulation_steps"):
        if name not in values:
            origins[name] = Origin("default of preflight", True, "no live object says it")
    more = with_more_states(type(optimizer).__name__, _first_group(optimizer))
    more = "" if "(" in str(values.get("optimizer")) else more  # priced with its option
    settings = os.environ.get("PYTORCH_ALLOC_CONF") or os.environ.get("PYTORCH_CUDA_ALLOC_CONF", "")
    return LaunchPlan(
        **values,
        expandable_segments="expandable_segments:true" in settings.lower().replace(" ", ""),
        trainer=kind,
        versions={name: versions[name] for name in LIBRARIES},
        launcher="live",
        cwd=os.getcwd(),
        origins=origins,
        trainer_facts=TrainerFacts(_trl_script(args, trainer)),
        source=LiveSource(),
        notices=(_left_out(more),) if more else (),
    )


_ENGINE = Origin("this process")


def _left_out(states: str) -> Problem:
    message = f"{states} keeps a state that is not counted"
    return Problem.left_out(message, "the live optimizer", f"the states of {states}", "more")


def num_live_params(model: Any) -> tuple[int, int]:
    """Return the live model's parameters, all and trained; tied ones once."""
    every = list(unwrapped(model).named_parameters())
    return (
        sum(num_elements(parameter) for _, parameter in every),
        sum(num_elements(parameter) for _, parameter in every if parameter.requires_grad),
    )


def _trainer_kind(args: Any, trainer: Any) -> str:
    for value in (trainer, args):
        for cls in type(value).__mro__:
            if cls.__module__.startswith("trl."):
                return "trl"
    if trainer is not None or hasattr(args, "per_device_train_batch_size"):
        return "transformers"
    return "plain_loop"


def _trl_script(args: Any, trainer: Any) -> str | None:
    for value in (trainer, args):
        for cls in type(value).__mro__:
            if cls.__module__.startswith("trl.") and cls.__name__.endswith(("Trainer", "Config")):
                return cls.__name__.removesuffix("Trainer").removesuffix("Config").lower() or None
    return None


def _argument_fields(args: Any, kind: str) -> dict[str, tuple[Any, str]]:
    """Return plan field -> value and the argument that says it."""
    found: dict[str, tuple[Any, str]] = {}
    if args is None:
        return found

    def take(field: str, name: str) -> None:
        value = getattr(args, name, None)
        if value is not None:
            found[field] = (getattr(value, "value", value), name)

    take("micro_batch_size", "per_device_train_batch_size")
    take("gradient_accumulation_steps", "gradient_accumulation_steps")
    take("optimizer", "optim")
    take("max_grad_norm", "max_grad_norm")
    take("seq_len", "max_length")
    evaluates = getattr(args, "eval_strategy", "no")
    if str(getattr(evaluates, "value", evaluates)) != "no":
        take("eval_micro_batch_size", "per_device_eval_batch_size")
    for name in ("bf16", "fp16"):
        if getattr(args, name, False):
            found["mixed_precision"] = (name, name)
    # transformers 5.24 calls it activation_checkpointing, and warns of the name before.
    word = "activation" if hasattr(type(args), "activation_checkpointing") else "gradient"
    if getattr(args, f"{word}_checkpointing", False):
        found["activation_checkpointing"] = ("full", f"{word}_checkpointing")
        options = getattr(args, f"{word}_checkpointing_kwargs", None) or {}
        if "use_reentrant" in options:
            reentrant = bool(options["use_reentrant"])
            found["checkpointing_reentrant"] = (reentrant, f"{word}_checkpointing_kwargs")
    if getattr(args, "torch_compile", False):
        found["torch_compile"] = (True, "torch_compile")
    if getattr(args, "packing", False):
        found["sequence_kind"] = ("packed", "packing")
    elif kind == "trl":
        found["sequence_kind"] = ("padded", "packing")
    loss_type = getattr(args, "loss_type", None)
    if getattr(args, "use_liger_kernel", False):
        found["loss"] = ("fused_linear", "use_liger_kernel")
        config = getattr(args, "liger_kernel_config", None)
        found["kernels"] = (liger_kernels(config), "use_liger_kernel")
    elif kind == "trl" and loss_type is not None and _trl_script(args, None) == "sft":
        found["loss"] = (
            "chunked_linear" if str(loss_type) == "chunked_nll" else "full_logits",
            "loss_type",
        )
    return found


def _unwrapped_optimizer(optimizer: Any) -> Any:
    while getattr(optimizer, "optimizer", None) is not None:
        optimizer = optimizer.optimizer  # accelerate's and DeepSpeed's wrappers
    return optimizer


def _first_group(optimizer: Any) -> Mapping[str, Any]:
    groups = getattr(optimizer, "param_groups", None)
    return groups[0] if groups else {}


def _optimizer_fields(optimizer: Any) -> dict[str, Any]:
    path = f"{type(optimizer).__module__}.{type(optimizer).__name__}"
    name = optimizer_of(path, _first_group(optimizer)) or optimizer_of(path)
    if name is None:
        return {}
    found: dict[str, Any] = {"optimizer": name}
    first = _first_group(optimizer)
    if name == "adamw_torch" and first.get("fused"):
        found["optimizer"] = "adamw_torch_fused"
    elif name in ("adamw_torch", "sgd", "rmsprop", "adagrad") and first.get("foreach") is False:
        found["optimizer_kernel"] = "for_loop"
    return found
