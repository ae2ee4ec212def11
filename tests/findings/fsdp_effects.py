"""Experiments with accelerate's FSDP1 and FSDP2: wrapping, recomputation, accumulation, offload, optimizers, precision."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable

import torch
from effect_ranks import (
    SIZES,
    Results,
    backward,
    clean,
    experiment,
    export,
    gradients,
    local,
    local_bytes,
    model_of,
    prepared,
    refusal,
    relative_error,
    start,
    with_lora,
)

ORIGINAL = {"use_orig_params": "true"}


@experiment
def dropout_under_checkpointing() -> Results:
    """Relative error of the gradients against those without checkpointing, by who recomputes."""
    found: Results = {}
    for dropout in (0.0, 0.3):
        for version in (1, 2):
            expected = None
            for who in ("nobody", "fsdp", "trainer"):
                own = str(who == "fsdp").lower()
                accelerator = start(version, activation_checkpointing=own, **ORIGINAL)
                model = model_of(attention_dropout=dropout)
                if who == "trainer":
                    model.gradient_checkpointing_enable({"use_reentrant": False})
                model, _ = prepared(accelerator, model)
                backward(accelerator, model)
                got = gradients(model)
                expected = got if expected is None else expected
                found[f"fsdp{version} {who} {dropout}"] = relative_error(got, expected)
    return found


@experiment
def saved_adapters() -> Results:
    """How many tensors PEFT finds in the collected state dict of an adapter, by who recomputes."""
    from peft import get_peft_model_state_dict
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    found: Results = {}
    for version in (1, 2):
        for who in ("nobody", "fsdp", "trainer"):
            own = str(who == "fsdp").lower()
            accelerator = start(version, activation_checkpointing=own, **ORIGINAL)
            model = with_lora(model_of())
            if who == "trainer":
                model.gradient_checkpointing_enable({"use_reentrant": False})
            wrapped, _ = prepared(accelerator, model)
            backward(accelerator, wrapped)
            options = StateDictOptions(full_state_dict=True)
            states = get_model_state_dict(wrapped, options=options)
            saved = get_peft_model_state_dict(accelerator.unwrap_model(wrapped), states)
            found[f"fsdp{version} {who}"] = len(saved)
    return found


@experiment
def adapters_in_files() -> Results:
    """How many tensors the Trainer leaves in adapter_model.safetensors, by who recomputes."""
    import tempfile

    import torch.distributed as dist
    import torch.distributed.fsdp as fsdp
    from safetensors import safe_open
    from transformers import Trainer, TrainingArguments

    stock = fsdp.FullStateDictConfig.__init__

    def left_in_place(self: object, *args: object, **kwargs: object) -> None:
        # What is moved to the CPU is freed where it was, and on a CPU that is the same memory.
        stock(self, *args, **kwargs)
        object.__setattr__(self, "offload_to_cpu", False)

    fsdp.FullStateDictConfig.__init__ = left_in_place
    found: Results = {}
    try:
        for version in (1, 2):
            for who in ("nobody", "fsdp"):
                clean()
                own = str(who == "fsdp").lower()
                export(version, activation_checkpointing=own, **ORIGINAL)
                folder = [tempfile.mkdtemp()]
                dist.broadcast_object_list(folder)
                args = TrainingArguments(
                    folder[0], report_to=[], max_steps=1, save_strategy="no", disable_tqdm=True
                )
                rows = [{"input_ids": [1, 2, 3], "labels": [1, 2, 3]}] * 16
                trainer = Trainer(with_lora(model_of()), args, train_dataset=rows)
                trainer.train()
                trainer.accelerator.state.fsdp_plugin.set_state_dict_type("FULL_STATE_DICT")
                trainer.save_model()
                dist.barrier()
                with safe_open(f"{folder[0]}/adapter_model.safetensors", "pt") as saved:
                    found[f"fsdp{version} {who}"] = len(list(saved.keys()))
    finally:
        fsdp.FullStateDictConfig.__init__ = stock
    return found


@experiment
def wrapping() -> Results:
    """What a wrap policy does that the model does not fit."""

    def run(version: int, **settings: object) -> str:
        accelerator = start(version, **{**ORIGINAL, **settings})
        return refusal(lambda: backward(accelerator, prepared(accelerator, model_of())[0]))

    layer = sum(p.numel() for p in model_of().model.layers[0].parameters())
    checkpointing = {"auto_wrap_policy": "NO_WRAP", "activation_checkpointing": "true"}
    found: Results = {}
    for version in (1, 2):
        cases = {
            "layer": {"transformer_cls_to_wrap": "LlamaDecoderLayer"},
            "part": {"transformer_cls_to_wrap": "LlamaMLP"},
            "absent": {"transformer_cls_to_wrap": "GPT2Block"},
            "checkpointing": checkpointing,
            "size": {"auto_wrap_policy": "SIZE_BASED_WRAP", "min_num_params": layer - 1},
            "size above all": {"auto_wrap_policy": "SIZE_BASED_WRAP", "min_num_params": 10**9},
        }
        for name, settings in cases.items():
            found[f"fsdp{version} {name}"] = run(version, **settings)
    return found


@experiment
def shared_words() -> Results:
    """What models say whose encoder and decoder share their words."""
    from transformers import AutoConfig, AutoModelForSeq2SeqLM

    t5 = {"d_model": 64, "d_ff": 128, "d_kv": 16, "num_heads": 4, "num_layers": 1}
    layers = {f"{stack}_{name}": n for stack in ("encoder", "decoder") for name, n in BART.items()}
    sizes = {
        **dict.fromkeys(("t5", "mt5", "umt5"), t5),
        **{name: {"d_model": 64, **layers} for name in ("bart", "mbart", "pegasus")},
    }
    found: Results = {}
    for name, given in sizes.items():
        for version in (1, 2):
            accelerator = start(version, **ORIGINAL)
            config = AutoConfig.for_model(
                name, **given, vocab_size=SIZES["vocab_size"], max_position_embeddings=64,
                pad_token_id=0, decoder_start_token_id=0,
            )  # fmt: skip
            model = AutoModelForSeq2SeqLM.from_config(config).train()
            found[f"fsdp{version} {name}"] = refusal(
                lambda a=accelerator, m=model: backward(a, prepared(a, m)[0])
            )
    return found


BART = {"ffn_dim": 128, "layers": 1, "attention_heads": 4}


@experiment
def one_unit() -> Results:
    """How many units FSDP1 makes, by what a policy without effect says."""
    from torch.distributed.fsdp import FullyShardedDataParallel

    layer = sum(p.numel() for p in model_of().model.layers[0].parameters())
    cases = {
        "layers": {},
        "no policy": {"auto_wrap_policy": "NO_WRAP"},
        "size 0": {"auto_wrap_policy": "SIZE_BASED_WRAP", "min_num_params": 0},
        "size above a layer": {"auto_wrap_policy": "SIZE_BASED_WRAP", "min_num_params": layer + 1},
    }
    found: Results = {}
    for name, settings in cases.items():
        model, _ = prepared(start(1, **{**ORIGINAL, **settings}), model_of())
        found[name] = len(FullyShardedDataParallel.fsdp_modules(model))
    return found


@experiment
def settings_of_the_other_version() -> Results:
    """Bytes of parameters that a rank keeps after a forward pass, as a share of all."""
    found: Results = {}
    cases = {
        "fsdp2 reshard": (2, {"reshard_after_forward": "true"}),
        "fsdp2 keep": (2, {"reshard_after_forward": "false"}),
        "fsdp2 SHARD_GRAD_OP": (2, {"sharding_strategy": "SHARD_GRAD_OP"}),
        "fsdp2 HYBRID_SHARD": (2, {"sharding_strategy": "HYBRID_SHARD"}),
        "fsdp2 NO_SHARD": (2, {"sharding_strategy": "NO_SHARD"}),
        "fsdp1 FULL_SHARD": (1, {"sharding_strategy": "FULL_SHARD"}),
        "fsdp1 reshard false": (1, {"reshard_after_forward": "false"}),
        "fsdp1 SHARD_GRAD_OP": (1, {"sharding_strategy": "SHARD_GRAD_OP"}),
    }
    for name, (version, settings) in cases.items():
        model, _ = prepared(start(version, **{**ORIGINAL, **settings}), model_of())
        layer = (model if version == 2 else model.module).model.layers[0]
        ids = torch.zeros((1, 4), dtype=torch.long)
        model(input_ids=ids, labels=ids)
        if version == 2:
            group = layer._get_fsdp_state()._fsdp_param_group
            found[name] = {"keeps": not group.is_sharded, "over": group.mesh_info.mesh.size()}
        else:
            handle = layer._handle
            padded = handle.flat_param._full_param_padded.untyped_storage().nbytes()
            found[name] = {"keeps": padded > 0, "over": handle.world_size}
    return found


@experiment
def refused_words() -> Results:
    """What accelerate's plugin refuses."""
    cases = {
        "reshard word": (2, {"reshard_after_forward": "FULL_SHARD"}),
        "local 1": (1, {"state_dict_type": "LOCAL_STATE_DICT"}),
        "local 2": (2, {"state_dict_type": "LOCAL_STATE_DICT"}),
    }
    return {
        name: refusal(lambda v=version, s=settings: start(v, **s))
        for name, (version, settings) in cases.items()
    }


@experiment
def unsharded_gradients() -> Results:
    """Bytes of gradients that a rank keeps after a micro step that synchronises, and after one that does not."""
    found: Results = {"all": local_bytes(model_of().parameters())}
    for version in (1, 2):
        for syncs in (True, False):
            accelerator = start(version, **ORIGINAL)
            model, _ = prepared(accelerator, model_of())
            with contextlib.nullcontext() if syncs else accelerator.no_sync(model):
                backward(accelerator, model)
            kept = _flat_gradients(model) if version == 1 else _gradients_of_groups(model)
            storages = {t.untyped_storage()._cdata: t.untyped_storage().nbytes() for t in kept}
            found[f"fsdp{version} {'syncs' if syncs else 'waits'}"] = sum(storages.values())
    return found


def _flat_gradients(model: torch.nn.Module) -> list[torch.Tensor]:
    from torch.distributed.fsdp import FullyShardedDataParallel

    flats = [m._handle.flat_param for m in FullyShardedDataParallel.fsdp_modules(model)]
    held = [(flat.grad, getattr(flat, "_saved_grad_shard", None)) for flat in flats]
    return [tensor for pair in held for tensor in pair if tensor is not None]


def _gradients_of_groups(model: torch.nn.Module) -> list[torch.Tensor]:
    kept = [local(p.grad) for p in model.parameters() if p.grad is not None]
    for module in model.modules():
        group = module._get_fsdp_state()._fsdp_param_group if _is_unit(module) else None
        for param in group.fsdp_params if group is not None else ():
            waiting = param.unsharded_accumulated_grad
            if waiting is None and hasattr(param, "_unsharded_param"):
                waiting = param._unsharded_param.grad
            if waiting is not None:
                kept.append(waiting)
    return kept


def _is_unit(module: torch.nn.Module) -> bool:
    return hasattr(module, "_get_fsdp_state")


@experiment
def offload_and_accumulation() -> Results:
    """Relative error of gradients accumulated under CPU offload, where every micro step synchronises and where not.

    A rank without a GPU computes on the device that it offloads to. Two calls that only such a copy needs are
    replaced, and FSDP1 is told that it computes elsewhere: then it does with its gradients what it does with a GPU.
    """
    torch.Tensor.pin_memory = lambda tensor, *_: tensor.clone()
    torch.cpu.Stream.synchronize = lambda stream: None
    found: Results = {}
    for version in (1, 2):
        expected = None
        for offload, syncs in (("false", True), ("true", True), ("true", False)):
            accelerator = start(version, offload_params=offload, **ORIGINAL)
            model, _ = prepared(accelerator, model_of())
            if version == 1 and offload == "true":
                _compute_elsewhere(model)
            with contextlib.nullcontext() if syncs else accelerator.no_sync(model):
                backward(accelerator, model, 0)
            backward(accelerator, model, 1)
            got = gradients(model)
            expected = got if expected is None else expected
            found[f"fsdp{version} offload {offload} syncs {syncs}"] = relative_error(got, expected)
    return found


def _compute_elsewhere(model: torch.nn.Module) -> None:
    from torch.distributed.fsdp import FullyShardedDataParallel
    from torch.distributed.fsdp._flat_param import FlatParamHandle

    stock = FlatParamHandle.prepare_gradient_for_backward

    def prepare(handle):
        handle.device = torch.device("cpu:0")
        handle._check_on_compute_device = lambda tensor: None
        stock(handle)
        handle.device = torch.device("cpu")
        del handle._check_on_compute_device

    for module in FullyShardedDataParallel.fsdp_modules(model):
        module._handle.prepare_gradient_for_backward = prepare.__get__(module._handle)


@experiment
def bitsandbytes_optimizers() -> Results:
    import bitsandbytes.optim as bnb

    def run(version: int, made: Callable) -> str:
        accelerator = start(version, "bf16", **ORIGINAL)
        model, optimizer = prepared(accelerator, model_of(), made)
        backward(accelerator, model)
        return refusal(optimizer.step)

    kinds = {
        "8bit": lambda p: bnb.AdamW8bit(p, lr=0.1, min_8bit_size=64),
        "32bit": lambda p: bnb.AdamW32bit(p, lr=0.1),
        "paged 8bit": lambda p: bnb.PagedAdamW8bit(p, lr=0.1, min_8bit_size=64),
        "lion": lambda p: bnb.Lion32bit(p, lr=0.1),
        "torch": lambda p: torch.optim.AdamW(p, lr=0.1),
    }
    return {
        f"fsdp{version} {name}": run(version, made)
        for version in (1, 2)
        for name, made in kinds.items()
    }


@experiment
def half_precision() -> Results:
    """Which optimizer steps are skipped with the gradient scaler that accelerate makes for fp16 on a GPU."""
    from accelerate.utils import DistributedType, get_grad_scaler
    from accelerate.utils.fsdp_utils import get_fsdp2_grad_scaler

    found: Results = {}
    for version in (1, 2):
        accelerator = start(version, "fp16", **ORIGINAL)
        accelerator.scaler = (
            get_fsdp2_grad_scaler(device="cpu")
            if version == 2
            else get_grad_scaler(DistributedType.FSDP, device="cpu")
        )
        model, optimizer = prepared(accelerator, model_of())
        skipped = []
        for step in range(6):
            backward(accelerator, model, step)
            optimizer.step()
            if optimizer.step_was_skipped:
                skipped.append(step)
            optimizer.zero_grad()
        found[f"fsdp{version}"] = skipped
        found[f"fsdp{version} loss"] = str(_loss_dtype(model))
    return found


def _loss_dtype(model: torch.nn.Module) -> torch.dtype:
    ids = torch.zeros((1, 4), dtype=torch.long)
    return model(input_ids=ids, labels=ids).loss.dtype


@experiment
def words_for_true() -> Results:
    """Which spelling of ACCELERATE_USE_FSDP turns FSDP on."""
    from accelerate import Accelerator

    found: Results = {}
    for word in ("1", "yes", "true", "True"):
        clean()
        os.environ["ACCELERATE_USE_FSDP"] = word
        found[word] = Accelerator().distributed_type.value
    return found
