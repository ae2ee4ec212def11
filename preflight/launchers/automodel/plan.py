"""The keys of an Automodel recipe in plan fields: mesh, FSDP2, dtypes, batch, length, adapter, optimizer and loss.

Source: components/distributed/{config,fsdp2,parallelizer}.py, components/training/step_scheduler.py,
components/_peft/{lora,module_matcher}.py, components/loss/*.py and _transformers/auto_model.py of nemo-automodel 0.7.0.
"""

from __future__ import annotations

from preflight.launch import Origin
from preflight.launchers.automodel.adapter import read_adapter
from preflight.launchers.automodel.keys import KEYS
from preflight.launchers.automodel.left_out import name_unread, row_length
from preflight.launchers.framework_keys import FrameworkKeys, NotModelled
from preflight.launchers.named_optimizer import named_optimizer
from preflight.scripts.arguments.trainer_spellings import attention_of
from preflight.setting import Place, Setting
from preflight.shell.starters.launcher_part import LauncherPart
from preflight.units import ceil_div
from preflight.unpriced_names import AUTOMODEL, STORED_DTYPE

DECIDES = {
    "model.pretrained_model_name_or_path": "model",
    "model.config": "model",
    KEYS["micro_batch_size"]: "micro_batch_size",
    "step_scheduler.global_batch_size": "gradient_accumulation_steps",
    "dataset.seq_length": "seq_len",
    "packed_sequence.packed_sequence_size": "seq_len",
}
MODELS = (
    "model.pretrained_model_name_or_path",
    "model.config.pretrained_model_name_or_path",
    "model.config",
)
CAUSAL = ("NeMoAutoModelForCausalLM.from_pretrained", "NeMoAutoModelForCausalLM.from_config")
DTYPES = {
    "bf16": "bf16",
    **dict.fromkeys(("bfloat16", "torch.bfloat16"), "bf16"),
    **dict.fromkeys(("float16", "half", "torch.float16", "torch.half"), "fp16"),
    **dict.fromkeys(("float32", "float", "torch.float32", "torch.float"), "fp32"),
}
"""The words of dtype_from_str (shared/utils.py) that a model is trained in; it knows no fp32 and no fp16."""
OWN_CODE = NotModelled(
    "Automodel's own layers, Liger's where it has none of its own, and what its checkpointing keeps are estimated as"
    " transformers'",
    AUTOMODEL,
    "either",
)
AS_STORED = NotModelled(
    "weights are trained in the dtype that they are stored in, which is taken for bf16",
    STORED_DTYPE,
    "either",
)
LEFT_OUT = {
    "distributed.ep_size": NotModelled(
        "experts divided over ranks are not estimated", "expert parallelism", "either"
    ),
    "distributed.pp_size": NotModelled(
        "every rank is estimated with all layers", "pipeline stages", "either"
    ),
}
"""Degrees above one that the estimate does not hold."""
LOSSES = {
    "masked_ce.MaskedCrossEntropy": "full_logits",
    "chunked_ce.ChunkedCrossEntropy": "chunked_ce",
    "linear_ce.FusedLinearCrossEntropy": "fused_linear",
}


def read_recipe(keys: FrameworkKeys, part: LauncherPart) -> None:
    """Fill in every plan field that a recipe decides."""
    here = keys.get("model._target_") or Setting(None, Place("yaml", "", "model"))
    keys.assume("objective", "sft", "next-token training")
    _model(keys, here)
    dtype = _dtypes(keys, part, here)
    degrees = _engine(keys, part)
    _steps(keys, part, degrees)
    _length(keys)
    read_adapter(keys, dtype)
    _optimizer(keys)
    _loss(keys)
    for name, left_out in LEFT_OUT.items():
        if isinstance(keys.value(name), int) and keys.value(name) > 1:
            keys.leave_out(left_out, keys.given[name])
    keys.leave_out(OWN_CODE, here)
    name_unread(keys)


def _model(keys: FrameworkKeys, target: Setting) -> None:
    name = keys.get(*MODELS)
    if name is not None and isinstance(name.value, str):
        keys.put("model", name.value, name)
    if target.value is not None and not str(target.value).endswith(CAUSAL):
        message = f"what {target.value} builds is estimated as a plain causal model"
        keys.leave_out(NotModelled(message, "the model that its target builds", "either"), target)


def _dtypes(keys: FrameworkKeys, part: LauncherPart, here: Setting) -> str:
    """Put the dtype that weights are kept and stepped in, and the bf16 that FSDP2's policy computes in.

    One rank is not wrapped, so that nothing is cast there (fsdp2_sharding_enabled).
    """
    said = keys.get("model.torch_dtype", "model.dtype")
    stored = "" if said is None else DTYPES.get(str(said.value).lower(), "")
    if said is not None and not stored and said.value != "auto":
        fix = "bf16, float32, or auto"
        severity = "error" if keys.library.is_known else "warning"
        keys.refuse(f"Automodel 0.7.0 knows no dtype {said.value!r}", said, fix, severity)
    is_built = str(here.value).endswith("from_config")
    if said is not None and stored:
        keys.put("load_dtype", stored, said)
    else:
        stored = "bf16"
        keys.assume("load_dtype", stored, "no torch_dtype")
        if not is_built:
            keys.leave_out(AS_STORED, said or here)
    keys.assume("master_dtype", stored, "the optimizer steps what FSDP2 keeps")
    is_wrapped = part.ranks["world_size"].value > 1
    policy = keys.get("distributed.mp_policy.param_dtype")
    computes = "bf16" if policy is None else DTYPES.get(str(policy.value), "bf16")
    keys.assume("mixed_precision", computes if is_wrapped and computes != "fp32" else "no")
    if is_wrapped:
        reduced = keys.get("distributed.mp_policy.reduce_dtype")
        keys.assume(
            "reduce_dtype", "fp32" if reduced is None else DTYPES.get(str(reduced.value), "fp32")
        )
    return stored


def _engine(keys: FrameworkKeys, part: LauncherPart) -> int:
    """Put the strategy and its mesh; return how many ranks work on the same samples."""
    world = part.ranks["world_size"].value
    together = 1
    for name, field in (
        ("distributed.tp_size", "tensor_parallel_degree"),
        ("distributed.cp_size", "context_parallel_degree"),
    ):
        degree = keys.get(name)
        if degree is not None and isinstance(degree.value, int) and degree.value > 1:
            keys.put(field, degree.value, degree)
            together *= degree.value
    pipeline = keys.value("distributed.pp_size")
    together *= pipeline if isinstance(pipeline, int) and pipeline > 1 else 1
    strategy = keys.get(KEYS["engine"])
    name = "fsdp2" if strategy is None else str(strategy.value).lower()
    by = strategy or keys.by_default(name)
    if name not in ("fsdp2", "ddp"):
        message = f"the strategy {name} is estimated as FSDP2"
        keys.leave_out(NotModelled(message, f"the strategy {name}", "either"), by)
        name = "fsdp2"
    engine = name if world > 1 else "single"
    keys.decide("engine", engine, strategy)
    if any(problem.id == "PF115" for problem in keys.problems):
        reason = "one rank is not wrapped, and several are"
        keys.origins["engine"] = Origin(by.place.where, True, reason, (name,))
    if engine == "fsdp2":
        copies = keys.value("distributed.dp_replicate_size")
        copies = copies if isinstance(copies, int) and copies > 0 else 1
        tensor = keys.settings.get("tensor_parallel_degree")
        cut = world // max(1, copies * (1 if tensor is None else tensor.value))
        cut //= pipeline if isinstance(pipeline, int) and pipeline > 1 else 1
        keys.assume(
            "shard_degree", max(1, cut), "dp_size and cp_size: what the other degrees leave"
        )
        keys.assume("replicate_degree", copies)
        keys.put_or("reshard_after_forward", KEYS["reshard_after_forward"], "default")
        keys.assume("wrap_policy", "transformer", "every layer is a unit")
        defer = keys.flag(KEYS["sync_each_batch"])
        keys.assume("sync_each_batch", defer is not None and defer.value is False)
    is_on = keys.get(
        KEYS["activation_checkpointing"], "distributed.config.activation_checkpointing"
    )
    switch = {"selective": "selective_op", "full": "full", True: "full", "true": "full"}
    keys.assume("activation_checkpointing", "none")
    if is_on is not None:
        value = is_on.value.lower() if isinstance(is_on.value, str) else is_on.value
        keys.put("activation_checkpointing", switch.get(value, "none"), is_on)
    return together


def _steps(keys: FrameworkKeys, part: LauncherPart, together: int) -> None:
    """Put batch and accumulation (StepScheduler): the global batch over all data ranks."""
    rows = keys.count(KEYS["micro_batch_size"])
    total = keys.count("step_scheduler.global_batch_size")
    if rows is not None:
        keys.put("micro_batch_size", rows.value, rows)
    if rows is None or total is None:
        return
    ranks = max(1, part.ranks["world_size"].value // together)
    steps, rest = divmod(total.value, rows.value * ranks)
    if rest:
        # The recipe stops at it; the number of ranks may be one that nobody said.
        message = (
            f"a global batch of {total.value} is no multiple of {rows.value} x {ranks} data ranks"
        )
        keys.refuse(message, total, f"global_batch_size: {rows.value * ranks}", "warning")
    keys.put("gradient_accumulation_steps", max(1, steps), total)


def _length(keys: FrameworkKeys) -> None:
    packed = keys.count("packed_sequence.packed_sequence_size", least=0)
    if packed is not None and packed.value > 0:
        keys.put("seq_len", packed.value, packed)
        keys.assume("sequence_kind", "packed")
        return
    length = row_length(keys, "dataset")
    keys.assume("sequence_kind", "padded", "rows are padded to the longest of the batch")
    if length is not None:
        to = keys.count("dataloader.collate_fn.pad_seq_len_divisible")
        padded_to = 1 if to is None else to.value
        keys.put("seq_len", padded_to * ceil_div(length.value, padded_to), length)
    elif (here := keys.get("dataset.seq_length", "dataset._target_")) is not None:
        message = "no length that cuts rows: the longest row of the data decides, which preflight does not read"
        fix = "--dataset.seq_length N --dataset.truncation true"
        keys.note("PF143", message, here, fix, "info")


def _optimizer(keys: FrameworkKeys) -> None:
    target = keys.get("optimizer._target_")
    if target is None:
        return
    name = named_optimizer(keys, str(target.value), target)
    is_fused = name == "adamw_torch" and keys.is_on("optimizer.fused")
    keys.put("optimizer", "adamw_torch_fused" if is_fused else name, target)
    norm = keys.number("clip_grad_norm.max_norm")
    keys.assume("max_grad_norm", 1.0 if norm is None else norm.value)


def _loss(keys: FrameworkKeys) -> None:
    keys.assume("attention", "flash_attention_2", "flash-attn where it is installed, else sdpa")
    said = keys.get("model.attn_implementation", "model.backend.attn")
    if said is not None and (word := attention_of(said.value)) is not None:
        keys.put("attention", word, said)
    compiles = keys.is_on("compile.enabled") or keys.is_on("distributed.enable_compile")
    keys.assume("torch_compile", compiles)
    target = keys.get("loss_fn._target_")
    if target is None:
        return
    name = ".".join(str(target.value).split(".")[-2:])
    loss = LOSSES.get(name)
    if loss is None:
        message = f"the loss {name} is estimated as one of whole logits"
        keys.leave_out(NotModelled(message, f"the loss {name}", "either"), target)
    keys.put("loss", loss or "full_logits", target)
