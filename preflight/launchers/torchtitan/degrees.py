"""How torchtitan spreads a model over its ranks and over the stages of a pipeline, and the reader that takes keys with their
defaults.

Source: torchtitan 0.2.2 (distributed/parallel_dims.py:35-56, models/llama3/infra/parallelize.py:130-165,
distributed/pipeline_parallel.py pipeline_llm, build_pipeline_schedule) and 0.3.0.
"""

from __future__ import annotations

from typing import Any

from preflight.launch import Pipeline
from preflight.launchers.framework_keys import FrameworkKeys, NotModelled
from preflight.launchers.torchtitan.config_values import TitanConfig
from preflight.setting import Setting
from preflight.unpriced_names import SENT_TOKENS

RESHARD: dict[Any, bool | str] = {"always": True, "never": False, "default": "default"}


class TitanReader:
    """Reads one config into plan fields; made and used by read_plan."""

    def __init__(self, keys: FrameworkKeys, config: TitanConfig) -> None:
        self.keys = keys
        self.config = config

    def value(self, key: str) -> Any:
        """Return what holds for a key: given, or the default."""
        return self.keys.value(key, self.config.default(key))

    def degree(self, key: str) -> int:
        setting = self.keys.count(key)
        value = self.config.default(key) if setting is None else setting.value
        return int(value) if isinstance(value, int) else 1

    def at(self, key: str, value: Any) -> Setting:
        """Return a key that is given; else the value that a config function or a default has for it."""
        return self.keys.get(key) or self.keys.by_default(value)

    def put(self, plan_field: str, value: Any, *names: str, reason: str = "") -> None:
        """Record a field with the keys that say it, or as the default."""
        self.keys.decide(plan_field, value, *map(self.keys.get, names), reason=reason)

    def choice(self, key: str, choices: dict[Any, Any]) -> Any:
        """Return the plan's word for a value; refuse one that torchtitan does not have."""
        value = self.value(key)
        is_word = isinstance(value, (str, bool, int))
        if value is None or (is_word and value in choices):
            return choices.get(value)
        setting = self.keys.get(key)
        if setting is not None:
            wanted = ", ".join(str(choice) for choice in choices)
            self.keys.refuse(f"{key} must be one of {wanted}, not {value!r}", setting)
        return None


def read_degrees(reader: TitanReader, world_size: Setting) -> tuple[int, int, int]:
    """Put engine and degrees; return shards of the data, copies and pipeline stages."""
    keys = reader.keys
    names = ("tensor_parallel_degree", "context_parallel_degree", "pipeline_parallel_degree")
    tensor, context, pipeline = (reader.degree(f"parallelism.{name}") for name in names)
    copies = reader.degree("parallelism.data_parallel_replicate_degree")
    shard_key = "parallelism.data_parallel_shard_degree"
    given = keys.get(shard_key)
    shards = reader.value(shard_key)
    if not isinstance(shards, int) or shards == 0 or shards < -1:
        if given is not None:
            keys.refuse(f"{shard_key} must be -1 or a whole number from 1, not {shards!r}", given)
        shards = -1
    others = copies * context * tensor * pipeline
    ranks = int(world_size.value)
    if shards < 0:
        shards = ranks // others
    if shards * others != ranks or shards < 1:
        culprit = next(
            (
                s
                for n in ("tensor", "context", "pipeline")
                if (s := keys.get(f"parallelism.{n}_parallel_degree"))
            ),
            given or keys.get("parallelism.data_parallel_replicate_degree") or world_size,
        )
        keys.refuse(
            f"degrees do not multiply to {ranks} ranks: replicate {copies} x shard {max(shards, 1)}"
            f" x context {context} x tensor {tensor} x pipeline {pipeline}",
            culprit,
            "data_parallel_shard_degree = -1 takes what is left",
        )
        shards = max(shards, 1)
    _put_engine(reader, world_size, shards, copies, tensor, context, pipeline)
    seq_len, divisor = reader.value("training.seq_len"), tensor * context * 2
    at = keys.get("training.seq_len")
    if tensor * context > 1 and isinstance(seq_len, int) and seq_len % divisor and at is not None:
        keys.refuse(
            f"training.seq_len {seq_len} is not divisible by {divisor}: tensor {tensor} x context {context} x 2",
            at,
            f"{(seq_len // divisor + 1) * divisor}",
        )
    return shards, copies, pipeline


def _put_engine(
    reader: TitanReader,
    world_size: Setting,
    shards: int,
    copies: int,
    tensor: int,
    context: int,
    pipeline: int,
) -> None:
    keys = reader.keys
    shard, copy = (f"parallelism.data_parallel_{word}_degree" for word in ("shard", "replicate"))
    sharded = shards * context
    if sharded > 1:
        engine = "fsdp2"
    else:
        engine = "ddp" if copies > 1 else "single"
    by = keys.get(shard, copy) or world_size
    keys.put("engine", engine, by)
    reader.put("tensor_parallel_degree", tensor, "parallelism.tensor_parallel_degree")
    reader.put("context_parallel_degree", context, "parallelism.context_parallel_degree")
    reader.put("expert_parallel_degree", _experts(reader), "parallelism.expert_parallel_degree")
    if engine != "fsdp2":
        return
    keys.put("shard_degree", sharded, by)
    reader.put("replicate_degree", copies, copy)
    key = "parallelism.fsdp_reshard_after_forward"
    reshard = reader.choice(key, RESHARD)
    if reshard == "default" and pipeline > 1:
        reshard = False
    reader.put("reshard_after_forward", reshard, key)
    if pipeline == 1:  # no micro step runs without a reduction (train.py train_step, 0.2.2)
        keys.assume("sync_each_batch", True, "gradients are reduced in every micro step")
    keys.assume("wrap_policy", "transformer", "a unit per block")
    offload = bool(reader.value("training.enable_cpu_offload"))
    place = "cpu" if offload else "none"
    reader.put("offload_params", place, "training.enable_cpu_offload")
    reader.put("offload_optimizer", place, "training.enable_cpu_offload")


STANDARD = "standard"
"""What sends tokens to experts of other ranks by all-to-all, into tensors as large as what comes."""
EVEN = ("debug.moe_force_load_balance", "training.debug_moe_force_load_balance")
"""Switches under which each expert is sent as many tokens, by release (models/common/moe.py _debug_force_load_balance_routing)."""


def _experts(reader: TitanReader) -> int:
    key = "parallelism.expert_parallel_degree"
    degree = reader.degree(key) if reader.config.default(key) is not None else 1
    if degree > 1 and not any(reader.value(forced) for forced in EVEN):
        message = "each rank is estimated with the tokens of its own rows: the router may send its experts more"
        sent = NotModelled(message, SENT_TOKENS, "either")
        reader.keys.leave_out(sent, reader.at(key, degree))
    backend = "parallelism.expert_parallel_comm_backend"  # 0.2.2; of 0.3 the config's model has it
    sender = (reader.config.entry or {}).get("dispatcher") or reader.value(backend) or STANDARD
    if degree > 1 and sender != STANDARD:
        message = f"{sender} sends tokens through buffers of its own, which are not counted"
        buffers = NotModelled(message, f"buffers of {sender}", "more")
        reader.keys.leave_out(buffers, reader.at(backend, sender))
    return degree


SCHEDULES = {
    "1f1b": "1f1b",
    "gpipe": "gpipe",
    "interleaved1f1b": "interleaved_1f1b",
    "loopedbfs": "looped_bfs",
}
"""torch's name in lower case, which is how it looks it up -> the plan's (get_schedule_class, 2.13)."""
DIVIDED_BY_HAND = ("module_fqns_per_model_part", "pipeline_parallel_schedule_csv")
KEEPS_OUTPUTS = ("0.1.0", "0.2.0")
"""Releases whose step gets the outputs of all micro batches, and the first divides at names of its own."""


def read_pipeline(reader: TitanReader, degree: int) -> bool:
    """Put the stages of a pipeline; name what is not priced of it, and return False, where that is so."""
    keys = reader.keys
    at = reader.at("parallelism.pipeline_parallel_degree", degree)
    if degree == 1:
        return True
    name = str(reader.value("parallelism.pipeline_parallel_schedule"))
    schedule = SCHEDULES.get(name.lower())
    by_hand = next((k for k in DIVIDED_BY_HAND if reader.value(f"parallelism.{k}")), None)
    unpriced = ""
    if by_hand is not None:
        unpriced = f"stages that {by_hand} says"
    elif schedule is None:
        unpriced = f"micro batches in flight under {name}"
    elif reader.config.version in KEEPS_OUTPUTS:
        unpriced = "a pipeline of an older torchtitan"
    if unpriced or schedule is None:
        message = f"every rank is estimated with all layers: {unpriced} is not priced"
        keys.leave_out(NotModelled(message, unpriced, "either"), at)
        return False
    micro = reader.degree("parallelism.pipeline_parallel_microbatch_size")
    batch = reader.degree("training.local_batch_size")
    if batch % micro:
        keys.refuse(
            f"pipeline_parallel_microbatch_size {micro} does not divide local_batch_size {batch}",
            keys.get("parallelism.pipeline_parallel_microbatch_size", "training.local_batch_size")
            or at,
        )
    per_stage = reader.value("parallelism.pipeline_parallel_layers_per_stage")
    pipeline = Pipeline(
        degree=degree,
        schedule=schedule,
        num_micro_batches=max(1, batch // micro),
        stages_per_rank=1 if schedule in ("1f1b", "gpipe") else 2,
        layers_per_stage=per_stage if isinstance(per_stage, int) else None,
        first_less=_less(reader, "first"),
        last_less=_less(reader, "last"),
    )
    keys.put("pipeline", pipeline, at)
    return True


def _less(reader: TitanReader, end: str) -> int:
    value = reader.value(f"parallelism.pipeline_parallel_{end}_stage_less_layers")
    return value if isinstance(value, int) else 1
