"""Writes what a rank really got, in the plan's words, one JSON file per rank.

Nothing here reads a config: engine and sharding are taken from the wrapped modules, micro batch,
accumulation and checkpointing are counted while the rank trains.
"""

from __future__ import annotations

import json
import os
from typing import Any

from probe_settings import settings
from probe_wrappers import (
    count,
    degrees,
    dtype_name,
    dtypes_of,
    engine_of,
    find_wrapper,
    fsdp_units,
    local_numel,
    mixed_precision,
    one_or_all,
    optimizer_offload,
    param_offload,
    reshard,
    reshards,
    whole_numel,
    wrap_policy,
)


class Watched:
    """Counts what one model does: hooks on its embedding, its MLPs and its head."""

    def __init__(self, model: Any) -> None:
        self.num_micro_steps = 0
        self.num_mlp_calls = 0
        self.num_head_calls = 0
        self.num_optimizer_steps = 0
        self.num_unsynced = 0
        self.eval_batch_sizes: set[int] = set()
        self.micro_batch_sizes: set[int] = set()
        self.seq_lens: set[int] = set()
        self.losses: list[float] = []
        self.model = model
        self.load_dtypes = dtypes_of(model, frozen_only=hasattr(model, "peft_config"))
        base = getattr(model, "get_base_model", lambda: model)()
        self.num_layers = base.config.num_hidden_layers
        base.get_input_embeddings().register_forward_pre_hook(self._embed)
        base.get_output_embeddings().register_forward_pre_hook(self._head)
        for module in model.modules():
            # A child of the layer: transformers checkpoints the layer's own forward, so a hook on
            # the layer never sees the recomputation. A pre-hook, because it stops early.
            if type(module).__name__.endswith("LlamaMLP"):
                module.register_forward_pre_hook(self._mlp)
        from torch.optim.optimizer import register_optimizer_step_post_hook

        register_optimizer_step_post_hook(self._step)

    def _embed(self, module: Any, inputs: Any) -> None:
        if not module.training:
            self.eval_batch_sizes.add(int(inputs[0].shape[0]))
            return
        self.num_micro_steps += 1
        self.micro_batch_sizes.add(int(inputs[0].shape[0]))
        self.seq_lens.add(int(inputs[0].shape[1]))

    def _mlp(self, module: Any, inputs: Any) -> None:
        self.num_mlp_calls += module.training

    def _head(self, module: Any, inputs: Any) -> None:
        self.num_head_calls += 1

    def _step(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        self.num_optimizer_steps += 1


watched: Watched | None = None
"""One model per process: these are training scripts."""
prepared: dict[str, Any] = {}


def patch_accelerator(module: Any) -> None:
    """Watch the model that a script gives to `prepare`, and describe it at `end_training`."""
    accelerator_class = module.Accelerator
    stock_prepare = accelerator_class.prepare
    stock_backward = accelerator_class.backward
    stock_no_sync = accelerator_class.no_sync
    stock_end = accelerator_class.end_training

    def prepare(self: Any, *args: Any, **kwargs: Any) -> Any:
        from torch.nn import Module

        global watched
        for model in (arg for arg in args if isinstance(arg, Module)):
            if watched is None:
                watched = Watched(model)
        results = stock_prepare(self, *args, **kwargs)
        for result in results if isinstance(results, tuple) else (results,):
            if isinstance(result, Module):
                prepared["model"] = result
            elif hasattr(result, "param_groups"):
                prepared["optimizer"] = result
        return results

    def backward(self: Any, loss: Any, **kwargs: Any) -> Any:
        if watched is not None:
            watched.losses.append(float(loss.detach()))
        return stock_backward(self, loss, **kwargs)

    def no_sync(self: Any, model: Any) -> Any:
        if watched is not None:
            watched.num_unsynced += 1
        return stock_no_sync(self, model)

    def end_training(self: Any) -> Any:
        write(self)
        return stock_end(self)

    accelerator_class.prepare = prepare
    accelerator_class.backward = backward
    accelerator_class.no_sync = no_sync
    accelerator_class.end_training = end_training


def patch_trainer(module: Any) -> None:
    """Watch the model of a Trainer (TRL's too) from before it is wrapped, and describe it after training."""
    trainer_class = module.Trainer
    stock_train = trainer_class.train

    def train(self: Any, *args: Any, **kwargs: Any) -> Any:
        global watched
        watched = Watched(self.model)
        result = stock_train(self, *args, **kwargs)
        prepared.update(model=self.model_wrapped, optimizer=self.optimizer, trainer=self)
        reshard(self.model_wrapped)
        write(self.accelerator)
        return result

    trainer_class.train = train


def write(accelerator: Any) -> None:
    """Write `rank-PID-N.json`, once; with the pid, because ranks that never met are all rank 0."""
    rank = accelerator.process_index
    folder = os.environ["PREFLIGHT_TEST_PROBE"]
    path = os.path.join(folder, f"rank-{os.getpid()}-{rank}.json")
    if os.path.exists(path):
        return
    facts = {"rank": rank, "plan": plan_fields(accelerator), **raw_facts(accelerator)}
    facts["settings"] = settings(prepared["model"], _optimizers(), watched)
    with open(path, "w", encoding="utf-8") as file:
        json.dump(facts, file, indent=1, default=str)
    if os.environ.get("PREFLIGHT_TEST_WEIGHTS"):
        import final_weights

        final_weights.save(prepared["model"], rank)


def plan_fields(accelerator: Any) -> dict[str, Any]:
    """Return what this rank got, under the names of LaunchPlan."""
    assert watched is not None
    model = prepared["model"]
    engine = engine_of(model)
    deepspeed = find_wrapper(model, "DeepSpeedEngine")
    units = fsdp_units(model, engine)
    steps = _num_optimizer_steps(deepspeed)
    config = watched.model.config
    return {
        "engine": engine,
        # Not the group's size: without the patch there is a group that nobody uses.
        "world_size": accelerator.num_processes,
        **degrees(model, engine, units),
        "reshard_after_forward": reshards(units, engine),
        "wrap_policy": wrap_policy(units, watched.num_layers),
        "offload_params": param_offload(units, deepspeed),
        "offload_optimizer": optimizer_offload(units, deepspeed),
        "load_dtype": one_or_all(watched.load_dtypes),
        "mixed_precision": mixed_precision(accelerator, deepspeed),
        "micro_batch_size": max(watched.micro_batch_sizes),
        "seq_len": max(watched.seq_lens),
        "gradient_accumulation_steps": watched.num_micro_steps // steps,
        "activation_checkpointing": _checkpointing(),
        "attention": config._attn_implementation,
        "adapter": _adapter(watched.model),
    }


def raw_facts(accelerator: Any) -> dict[str, Any]:
    """Return the counts behind the plan fields, and what no plan field says."""
    import torch.distributed as dist

    assert watched is not None
    model = prepared["model"]
    engine = engine_of(model)
    deepspeed = find_wrapper(model, "DeepSpeedEngine")
    parameters = list(model.parameters())
    return {
        "group_size": dist.get_world_size() if dist.is_initialized() else 1,
        "backend": dist.get_backend() if dist.is_initialized() else None,
        "distributed_type": accelerator.distributed_type.value,
        "wrapped_units": count(unit for unit, _ in fsdp_units(model, engine)),
        "param_dtypes": sorted({dtype_name(p.dtype) for p in parameters}),
        "num_params": sum(whole_numel(p) for p in parameters),
        "num_params_here": sum(local_numel(p) for p in parameters),
        "num_trainable_params": sum(whole_numel(p) for p in parameters if p.requires_grad),
        "optimizer": _optimizer_names(),
        "num_optimizer_states_here": _num_optimizer_states(),
        "has_full_logits": watched.num_head_calls > 0,
        "num_layers": watched.num_layers,
        "num_micro_steps": watched.num_micro_steps,
        "num_mlp_calls": watched.num_mlp_calls,
        "num_optimizer_steps": _num_optimizer_steps(deepspeed),
        "global_batch_size": deepspeed.train_batch_size() if deepspeed is not None else None,
        "losses": watched.losses,
        "eval_losses": _eval_losses(),
    }


def _checkpointing() -> str:
    """Return full where every MLP ran twice per micro step, none where once."""
    assert watched is not None
    calls = watched.num_mlp_calls / (watched.num_micro_steps * watched.num_layers)
    return {1.0: "none", 2.0: "full"}.get(calls, f"{calls} calls of each MLP per micro step")


def _adapter(model: Any) -> dict[str, Any] | None:
    configs = getattr(model, "peft_config", None)
    if not configs:
        return None
    config = next(iter(configs.values()))
    return {
        "rank": config.r,
        "alpha": config.lora_alpha,
        "dropout": config.lora_dropout,
        "targets": sorted(config.target_modules),
    }


def _num_optimizer_steps(deepspeed: Any) -> int:
    """Return completed optimizer steps; ZeRO-3 calls the inner optimizer once per sub group."""
    assert watched is not None
    if "trainer" in prepared:
        return int(prepared["trainer"].state.global_step)
    if deepspeed is not None:
        return int(deepspeed.global_steps)
    return watched.num_optimizer_steps


def _eval_losses() -> list[float]:
    history = prepared["trainer"].state.log_history if "trainer" in prepared else []
    return [entry["eval_loss"] for entry in history if "eval_loss" in entry]


def _optimizer_names() -> list[str]:
    return [type(optimizer).__name__ for optimizer in _optimizers()]


def _optimizers() -> list[Any]:
    """Return the optimizer and what it wraps, outermost first."""
    found: list[Any] = []
    optimizer = prepared.get("optimizer")
    while optimizer is not None and optimizer not in found:
        found.append(optimizer)
        optimizer = getattr(optimizer, "optimizer", None)
    return found


def _num_optimizer_states() -> int:
    """Return the elements of Adam's first moments on this rank."""
    innermost = _optimizers()[-1]
    moments = [s["exp_avg"] for s in innermost.state.values() if "exp_avg" in s]
    return sum(local_numel(moment) for moment in moments)
