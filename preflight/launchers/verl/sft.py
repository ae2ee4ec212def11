"""The SFT trainers of verl: the loop of fsdp_sft_trainer, and the one on the engine that its actor trains on too.

Source: trainer/fsdp_sft_trainer.py and trainer/config/sft_trainer.yaml of verl 0.2 to 0.7; trainer/sft_trainer.py,
sft_trainer_engine.yaml and workers/engine/fsdp/transformer_impl.py of 0.6 to 0.9.1.
"""

from __future__ import annotations

from dataclasses import replace

from preflight.launchers.framework_keys import FrameworkKeys, NotModelled
from preflight.launchers.verl.keys import KEYS
from preflight.launchers.verl.workers import (
    MANY,
    counts_tokens,
    put_rows,
    read_adapter,
    read_checkpointing,
    read_dtype,
    read_offload,
    read_padding,
    read_rest,
    read_sharding,
    rows_in_room,
)
from preflight.setting import Setting
from preflight.shell.starters.launcher_part import LauncherPart
from preflight.versions.verl import COUNTS_ROWS_OF_A_GPU

NOT_PRICED = {
    "model.mtp.enable_train": NotModelled("the model is estimated without it", "multi-token prediction", "more"),
    "engine.param_offload": NotModelled("parameters are estimated on the card", "parameters on the host", "less"),
    "engine.optimizer_offload": NotModelled("states are estimated on the card", "states on the host", "less"),
    "engine.pad_to_length": NotModelled("a micro batch is estimated without padding", "rows padded to a bucket", "more"),
}  # fmt: skip


def read_sft(keys: FrameworkKeys, part: LauncherPart, is_engine: bool) -> None:
    """Fill in every plan field that the configuration of an SFT trainer decides."""
    keys.assume("objective", "sft", "an SFT trainer")
    model = keys.get("model.path") if is_engine else keys.get("model.partial_pretrain")
    if model is not None:
        keys.put("model", str(model.value), model)
    old = keys.library.is_before("0.4")
    section = "engine" if is_engine else "model.fsdp_config"
    strategy = keys.get("engine.strategy") if is_engine else keys.get("model.strategy")
    table = KEYS["engine" if is_engine else "sft"]
    read_dtype(keys, f"{section}.model_dtype")
    default = "fsdp" if old or is_engine else "fsdp2"
    size = "engine.fsdp_size" if is_engine else "model.fsdp_config.fsdp_size"
    read_sharding(keys, strategy, default, size, int(part.ranks["world_size"].value))
    read_adapter(keys, "model")
    recomputes = is_engine or not keys.library.is_before(
        "0.4.1"
    )  # sft_trainer.yaml: False up to 0.4.0
    read_checkpointing(keys, table["activation_checkpointing"], recomputes)
    if is_engine:
        _engine_batch(keys, int(part.ranks["world_size"].value))
    else:
        _batch(keys, part)
    read_rest(keys, "model", section, "optim")
    keys.assume(
        "keeps_outputs", "backward", "output lives until _compute_loss_and_backward returns"
    )
    keys.assume("loss", "full_logits", "CrossEntropyLoss of whole logits")
    norm = keys.number("optim.clip_grad")
    keys.assume("max_grad_norm", 1.0 if norm is None else norm.value, "optim.clip_grad")
    if is_engine:
        read_offload(keys, table["offload_params"])
    else:
        _offload(keys, section)
    keys.leave_out_given(NOT_PRICED)
    name = "ulysses_sequence_parallel_size"
    parallel = keys.count(f"engine.{name}" if is_engine else name)
    if parallel is not None and parallel.value > 1:
        message = "every rank is estimated with its whole sequence"
        keys.leave_out(NotModelled(message, "sequence parallelism", "less"), parallel)


def _offload(keys: FrameworkKeys, section: str) -> None:
    """Record what both switches move to the host (fsdp_sft_trainer.py: CPUOffload(offload_params=...) where cpu_offload is on).

    FSDP2 is handed the same object, which is no policy of its own: nothing moves there but what it loads.
    """
    names = (f"{section}.cpu_offload", f"{section}.offload_params")
    if not keys.is_on(names[0]):
        return
    at = keys.given[names[0]]
    if keys.environment["FSDP_VERSION"].value == "2":
        message = "FSDP2 takes no CPUOffload: states are estimated on the card"
        keys.leave_out(NotModelled(message, "states that cpu_offload moves", "either"), at)
    elif keys.is_on(names[1]):
        keys.environment["FSDP_OFFLOAD_PARAMS"] = Setting("true", at.place)


def _engine_batch(keys: FrameworkKeys, ranks: int) -> None:
    """Record the micro batch of the engine: as many tokens as are said, unless rows are counted; without padding."""
    longest = _length(keys)
    dynamic = keys.flag("data.use_dynamic_bsz")
    rows = keys.count("data.micro_batch_size_per_gpu")
    default = keys.by_default(None)
    batch = keys.count("data.train_batch_size")
    whole = 256 if batch is None else int(batch.value)
    if counts_tokens(keys, "engine"):
        tokens = keys.count("data.max_token_len_per_gpu")
        number = 8192 if tokens is None else int(tokens.value)
        ring = keys.count("engine.ulysses_sequence_parallel_size")
        over = 1 if ring is None else int(ring.value)
        of_rank = MANY if keys.is_unknown("data.train_batch_size") else whole // ranks
        least, most, beyond = rows_in_room(keys, number, longest, of_rank, over)
        put_rows(keys, least, most, tokens or dynamic or default, beyond)
    else:
        number = 4 if rows is None else int(rows.value)
        put_rows(keys, number, number, rows or dynamic or default)
    most = keys.settings["micro_batch_size"].value
    keys.put("gradient_accumulation_steps", max(1, whole // (most * ranks)), batch or default)
    read_padding(keys, "model")
    keys.argument("verl_engine", True, None)


def _batch(keys: FrameworkKeys, part: LauncherPart) -> None:
    """Record the micro batch: as many rows as a GPU has, which 0.1 counts over all ranks that read rows of their own."""
    rows, of_all = keys.count("data.micro_batch_size_per_gpu"), keys.count("data.micro_batch_size")
    ranks = int(part.ranks["world_size"].value)
    at = keys.count("ulysses_sequence_parallel_size")
    reading = max(1, ranks // (1 if at is None else int(at.value)))
    is_divided = rows is None and not COUNTS_ROWS_OF_A_GPU.holds_in({"verl": keys.library.version})
    if is_divided:
        rows = of_all
    num_rows = (16 if is_divided else 4) if rows is None else int(rows.value)
    num_rows = max(1, num_rows // reading) if is_divided else num_rows
    keys.decide("micro_batch_size", num_rows, rows, reason="no data.micro_batch_size_per_gpu")
    if of_all is not None and rows is None and not keys.library.is_known:
        # whoever wrote it had 0.1, of which no other release takes it
        origin = keys.origins["micro_batch_size"]
        other = max(1, int(of_all.value) // reading)
        keys.origins["micro_batch_size"] = replace(origin, may_be=(other,))
    batch = keys.count("data.train_batch_size")
    whole = 256 if batch is None else int(batch.value)
    steps = max(1, whole // (num_rows * ranks))
    keys.decide(
        "gradient_accumulation_steps", steps, batch, reason="256 rows of all ranks in one step"
    )
    _length(keys)
    # Rows are padded to max_length (utils/dataset/sft_dataset.py), and a mask says which tokens are none.
    keys.assume("sequence_kind", "padded", "rows are padded to data.max_length")


def _length(keys: FrameworkKeys) -> int:
    """Record the longest row, and return it."""
    length = keys.count("data.max_length")
    longest = 1024 if length is None else int(length.value)
    keys.decide("seq_len", longest, length, reason="no data.max_length")
    return longest
