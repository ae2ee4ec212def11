"""The real model of a config, without data: transformers' classes, PEFT's adapters, and which layers to keep."""

from __future__ import annotations

import inspect
import re
from collections.abc import Hashable, Iterator
from typing import Any

from preflight.errors import BadInput
from preflight.formulas.adapters.adapter_kinds import BRANCHES, options_of
from preflight.remembered import remembered
from preflight.trace.built import INDEX_NAMES, BuiltModel, torch_dtype
from preflight.trace.checkpointing import mark_every_second
from preflight.trace.classes import class_of, decoder_of
from preflight.trace.compose import Depth, full_depth, shallow_depth
from preflight.trace.encoders import is_encoder
from preflight.trace.job import TraceJob
from preflight.trace.quantized import pack_linears
from preflight.trace.stacks import has_both_stacks, hears, layers_of_stacks, untie
from preflight.versions.transformers import HAS_DTYPE


def build(job: TraceJob, device: str = "meta") -> BuiltModel:
    """Build the model with the layers that show every kind, its adapters, dtypes and checkpointing."""
    trains_all = job.adapter is None
    model = _from_config(
        job, torch_dtype(job.trainable_dtype if trains_all else job.loaded_dtype), device
    )
    _put_tables(model)
    text = model.config.get_text_config()
    if job.attention.startswith("flash"):
        from preflight.trace.patches import register_flash_attention

        text._attn_implementation = register_flash_attention()
    text.use_cache = model.config.use_cache = False
    if job.checkpointing and job.checkpointing_mode == "selective_every_2":
        mark_every_second(model)
    if has_both_stacks(model.config):
        if job.config.get("tie_word_embeddings") is False:
            untie(model)
        return _with_both_stacks(model, job, device)
    parent, name = layers_of(model)
    layers = getattr(parent, name)
    depth = _depth(job, text, layers)
    if not depth.is_full:
        _keep(text, parent, name, depth.kept)
    model = _adapted(model, job, device)
    layers = getattr(parent, name)
    prefix = next(path for path, module in model.named_modules() if module is layers)
    return BuiltModel(model, layers, prefix, depth)


def _with_both_stacks(model: Any, job: TraceJob, device: str) -> BuiltModel:
    """Return an encoder with its decoder, whose layers run one stack after the other; none of them is left out."""
    layers = layers_of_stacks(model)
    return BuiltModel(_adapted(model, job, device), layers, "", full_depth(len(layers)))


def _adapted(model: Any, job: TraceJob, device: str) -> Any:
    """Return the model as it trains: packed and with adapters where the job has them."""
    if job.quantization is not None:
        pack_linears(model, job.quantization)
    if job.adapter is not None:
        model = _with_adapter(model, job, device)
        if job.checkpointing and job.inputs_ask:
            model.enable_input_require_grads()
    model.train()
    return model


def _from_config(job: TraceJob, dtype: Any, device: str) -> Any:
    import torch
    import transformers
    from transformers import AutoConfig

    implementation = "sdpa" if job.attention.startswith("flash") else job.attention
    if job.folder is not None:
        _raise_if_elsewhere(job)
        config = AutoConfig.from_pretrained(job.folder, trust_remote_code=True)
    else:
        values = {
            k: v for k, v in job.config.items() if k not in ("auto_map", "quantization_config")
        }
        model_type = values.pop("model_type", None)
        try:
            config = AutoConfig.for_model(model_type, **values)
        except ValueError as error:
            raise BadInput.one(
                f"transformers does not know model_type {model_type!r}",
                fix="`--trust-remote-code` runs the code in the model's own folder",
            ) from error
    says_dtype = HAS_DTYPE.holds_in({"transformers": transformers.__version__})
    arguments = {
        "dtype" if says_dtype else "torch_dtype": dtype,
        "trust_remote_code": job.folder is not None,
    }
    with torch.device(device):
        try:
            return class_of(config).from_config(
                config, attn_implementation=implementation, **arguments
            )
        except ValueError as error:
            if "does not support an attention implementation" not in str(error):
                raise
            # A class without SDPA runs eagerly unless it is told otherwise; so does the training script.
            return class_of(config).from_config(config, attn_implementation="eager", **arguments)


def _put_tables(model: Any) -> None:
    """Put tables in the dtype of a model's inputs that its first forward puts there for good (modeling_ctrl.py, 5.24.0)."""
    dtype = model.get_input_embeddings().weight.dtype
    for module in model.modules():
        for name, table in module.named_buffers(recurse=False):
            put = rf"self\.{re.escape(name)} = self\.{re.escape(name)}\.to\(.*dtype="
            if table.is_floating_point() and re.search(put, _source_of(type(module))):
                setattr(module, name, table.to(dtype))


@remembered
def _source_of(kind: type) -> str:
    """Return the text of a class, which Python finds by parsing its whole file."""
    return inspect.getsource(kind)


def _raise_if_elsewhere(job: TraceJob) -> None:
    own = job.config.get("auto_map") or {}
    if not isinstance(own, dict):
        raise BadInput.one(
            f"auto_map must name the classes of the folder's own code, not {own!r}",
            where=f"{job.folder}/config.json",
            fix='"auto_map": {"AutoModelForCausalLM": "modeling_own.OwnForCausalLM"}',
        )
    elsewhere = sorted(f"{name}: {value}" for name, value in own.items() if "--" in str(value))
    if elsewhere:
        raise BadInput.one(
            f"the code of {job.folder} is in another repository: {', '.join(elsewhere)}",
            where=f"{job.folder}/config.json",
            fix="put the code into the folder and take `REPOSITORY--` out of auto_map; nothing is downloaded",
        )


def layers_of(model: Any) -> tuple[Any, str]:
    """Return the module that owns the decoder layers and the name it has for them.

    The decoder's is the list of layers with the most parameters among the classes that transformers
    says not to split, in the part of a model that is its decoder where the model says which.
    """
    import torch

    classes = set(getattr(model, "_no_split_modules", None) or ())
    best: tuple[bool, int, Any, str] | None = None
    for owner in decoder_of(model).modules():
        for name, child in owner.named_children():
            if not isinstance(child, torch.nn.ModuleList) or not len(child):
                continue
            named = type(child[0]).__name__ in classes
            size = sum(p.numel() for p in child.parameters())
            if best is None or (named, size) > best[:2]:
                best = (named, size, owner, name)
    if best is None:
        raise BadInput.one(f"{type(model).__name__} has no list of layers to trace")
    return best[2], best[3]


def _depth(job: TraceJob, config: Any, layers: Any) -> Depth:
    # Router logits are collected over layers; per-layer embeddings and shared keys reach across them.
    reaches_across = any(
        getattr(config, name, None)
        for name in ("output_router_logits", "hidden_size_per_layer_input", "num_kv_shared_layers")
    )
    num_layers = getattr(config, "num_hidden_layers", None)
    if job.full_depth or reaches_across or len(layers) != num_layers:
        return full_depth(len(layers))
    return shallow_depth([_kind(layer, i, config) for i, layer in enumerate(layers)])


def _kind(layer: Any, index: int, config: Any) -> Hashable:
    """Return what makes two layers allocate alike: class, per-layer settings, shapes."""
    settings = tuple(values[index] for _, values in _per_layer(config, config.num_hidden_layers))
    tensors = tuple(
        (name, tuple(tensor.shape), str(tensor.dtype))
        for tensors in (layer.named_parameters(), layer.named_buffers())
        for name, tensor in tensors
    )
    switches = tuple(
        (path, name, _switch(value))
        for path, module in layer.named_modules()
        for name, value in sorted(vars(module).items())
        if name not in INDEX_NAMES
        and not name.startswith("_")
        and (value is None or isinstance(value, (bool, int, float, str)))
    )
    return type(layer).__name__, repr(settings), tensors, switches


def _switch(value: Any) -> Any:
    """Return a setting as far as memory depends on it: a scale of any size is a scale."""
    return bool(value) if isinstance(value, float) else value


def _per_layer(config: Any, num_layers: int) -> Iterator[tuple[str, list[Any]]]:
    for name, value in vars(config).items():
        is_list = isinstance(value, (list, tuple)) and len(value) == num_layers > 1
        if is_list and list(value) != list(range(num_layers)):  # those are positions
            yield name, list(value)


def _positions(holder: Any) -> Iterator[tuple[str, list[int]]]:
    """Yield what says which layers are of a kind by their positions: `cross_attention_layers`."""
    for name, value in vars(holder).items():
        is_list = name.endswith("_layers") and isinstance(value, (list, tuple))
        if is_list and all(type(item) is int for item in value):
            yield name, list(value)


def _keep(config: Any, owner: Any, name: str, kept: tuple[int, ...]) -> None:
    """Leave only some layers in the model, and tell its config so."""
    import torch

    layers = getattr(owner, name)
    for holder in (config, owner):
        for key, positions in list(_positions(holder)):
            setattr(holder, key, [kept.index(i) for i in positions if i in kept])
    for key, values in list(_per_layer(config, len(layers))):
        setattr(config, key, [values[i] for i in kept])
    config.num_hidden_layers = len(kept)
    setattr(owner, name, torch.nn.ModuleList([layers[i] for i in kept]))


def _task_of(config: Any) -> str | None:
    if is_encoder(config) or hears(
        config
    ):  # a task's class asks for words where Whisper takes sound
        return None
    return "SEQ_2_SEQ_LM" if has_both_stacks(config) else "CAUSAL_LM"


def _with_adapter(model: Any, job: TraceJob, device: str) -> Any:
    import peft
    import torch

    adapter = job.adapter
    assert adapter is not None
    where = {
        "target_modules": adapter["targets"],
        "modules_to_save": adapter["modules_to_save"],
        # PEFT's classes for tasks ask for what generates, which an encoder does not
        "task_type": _task_of(model.config),
    }
    if adapter["kind"] in BRANCHES:
        config = peft.LoraConfig(
            r=adapter["rank"],
            lora_alpha=adapter["alpha"],
            lora_dropout=adapter["dropout"],
            use_dora=adapter["kind"] == "dora",
            **where,
        )
    else:
        name, options = options_of(adapter["kind"], adapter["rank"], adapter["targets"])
        config = getattr(peft, name)(**options, **where)
    with torch.device(device):
        try:
            adapted = peft.get_peft_model(model, config)
        except ValueError as error:
            raise BadInput.one(f"PEFT refuses the adapter: {error}") from error
    dtype = torch_dtype(job.trainable_dtype)
    for parameter in adapted.parameters():
        if parameter.requires_grad and parameter.dtype != dtype:
            parameter.data = parameter.data.to(dtype)
    return adapted
