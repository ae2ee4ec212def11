"""The SFT trainers of verl: the loop of fsdp_sft_trainer, which is priced, and the one on its engines, which is named.

Source: trainer/fsdp_sft_trainer.py and trainer/config/sft_trainer.yaml of verl 0.2 to 0.7, sft_trainer_engine.yaml of 0.6
to 0.9.1.
"""

from __future__ import annotations

from preflight.launchers.framework_keys import FrameworkKeys, NotModelled
from preflight.launchers.verl.workers import (
    is_before,
    read_adapter,
    read_checkpointing,
    read_dtype,
    read_sharding,
)
from preflight.setting import Place, Setting
from preflight.shell.launcher_part import LauncherPart


def read_sft(keys: FrameworkKeys, part: LauncherPart, is_engine: bool) -> None:
    """Fill in every plan field that the configuration of an SFT trainer decides."""
    keys.assume("objective", "sft", "an SFT trainer")
    model = keys.get("model.path") if is_engine else keys.get("model.partial_pretrain")
    if model is not None:
        keys.put("model", str(model.value), model)
    if is_engine:
        at = model or Setting(None, Place("argv", "", "verl.trainer.sft_trainer"))
        message = "the loss and the batches of verl's engines are not read: they are estimated as its older trainer's"
        keys.leave_out(NotModelled(message, "the SFT engine of verl", "either"), at)
    old = is_before(keys, "0.4")
    section = "engine" if is_engine else "model.fsdp_config"
    strategy = keys.get("engine.strategy") if is_engine else keys.get("model.strategy")
    read_dtype(keys, f"{section}.model_dtype")
    default = "fsdp" if old or is_engine else "fsdp2"
    size = "engine.fsdp_size" if is_engine else "model.fsdp_config.fsdp_size"
    read_sharding(keys, strategy, default, size, int(part.ranks["world_size"].value))
    read_adapter(keys, "model")
    read_checkpointing(keys, "model.enable_gradient_checkpointing", not old)
    _batch(keys, part)
    keys.assume("attention", "flash_attention_2", "attn_implementation of its own")
    keys.assume("optimizer", "adamw_torch", "torch.optim.AdamW")
    keys.assume(
        "keeps_outputs", "backward", "output lives until _compute_loss_and_backward returns"
    )
    keys.assume("loss", "full_logits", "CrossEntropyLoss of whole logits")
    norm = keys.number("optim.clip_grad")
    keys.assume("max_grad_norm", 1.0 if norm is None else norm.value, "optim.clip_grad")
    if keys.is_on(f"{section}.cpu_offload") or keys.is_on(f"{section}.offload_policy"):
        at = keys.get(f"{section}.cpu_offload") or keys.given[f"{section}.offload_policy"]
        keys.environment["FSDP_OFFLOAD_PARAMS"] = Setting("true", at.place)
    if keys.is_on("model.use_liger"):
        at = keys.given["model.use_liger"]
        message = "Liger's modules are estimated as the model's own: its loss is not used"
        keys.leave_out(NotModelled(message, "Liger's kernels", "less"), at)
    parallel = keys.count("ulysses_sequence_parallel_size")
    if parallel is not None and parallel.value > 1:
        message = "every rank is estimated with its whole sequence"
        keys.leave_out(NotModelled(message, "sequence parallelism", "less"), parallel)


def _batch(keys: FrameworkKeys, part: LauncherPart) -> None:
    rows = keys.count("data.micro_batch_size_per_gpu") or keys.count("data.micro_batch_size")
    num_rows = 4 if rows is None else int(rows.value)
    if rows is not None:
        keys.put("micro_batch_size", num_rows, rows)
    else:
        keys.assume("micro_batch_size", num_rows, "no data.micro_batch_size_per_gpu")
    batch = keys.count("data.train_batch_size")
    whole = 256 if batch is None else int(batch.value)
    steps = max(1, whole // (num_rows * int(part.ranks["world_size"].value)))
    if batch is not None:
        keys.put("gradient_accumulation_steps", steps, batch)
    else:
        keys.assume("gradient_accumulation_steps", steps, "256 rows of all ranks in one step")
    length = keys.count("data.max_length")
    if length is not None:
        keys.put("seq_len", length.value, length)
    else:
        keys.assume("seq_len", 1024, "no data.max_length")
    # Rows are padded to max_length (utils/dataset/sft_dataset.py), and a mask says which tokens are none.
    keys.assume("sequence_kind", "padded", "rows are padded to data.max_length")
