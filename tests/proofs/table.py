"""Which remedies are proved, with which launches, and how near the trainings must be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from proving import Training

ROUNDING = 1e-5
"""Of a step's loss, in fp32: sums in another order differ by some 1e-7, and 20 steps of Adam let that grow."""


BF16_ROUNDING = 2.0**-9
"""Of a step's loss, where products run in bf16: the share by which one rounding to 8 bits of mantissa moves a number."""
LIVE = {"stage3_max_live_parameters": 50_000, "stage3_max_reuse_distance": 10_000}
BUCKET = {"reduce_bucket_size": 20_000}
BOTH_BUCKETS = {**BUCKET, "allgather_bucket_size": 20_000}
GROUP = {"sub_group_size": 20_000}
"""Keys of zero_optimization at sizes that cut a model of 200,000 parameters into ten pieces."""


@dataclass(frozen=True)
class Proof:
    """One remedy on one launch."""

    remedy: str
    training: Training
    safety: str
    """What the remedy says of itself here."""
    why: str = ""
    """What differs, where bits may."""
    tolerance: float = 0.0
    """The largest difference of a step's loss, as a share of it."""
    wanted: Mapping[str, Any] = field(default_factory=dict)
    """Which of a lever's offers: edits that it has."""
    scaled: Mapping[str, Any] = field(default_factory=dict)
    """Sizes in proportion to a model of 200,000 parameters: the lever's own would change nothing here."""

    @property
    def id(self) -> str:
        wanted = [f"-{value}" for value in self.wanted.values()]
        return f"{self.remedy}-{self.training.name}{''.join(wanted)}"


def scaled(settings: Mapping[str, int]) -> dict[str, Any]:
    """Return keys of zero_optimization as plan edits."""
    return {f"deepspeed.{name}": value for name, value in settings.items()}


def accelerate(config: str) -> str:
    """Return the launcher's words for a config file."""
    return f"accelerate launch --config_file {config}"


TORCHRUN = "torchrun --standalone --nproc-per-node 2"
TRAINER = "train_trainer.py --per_device_train_batch_size 4"
LORA_SFT = (
    "train_sft.py --per_device_train_batch_size 4 --use_peft --lora_target_modules all-linear"
)

FSDP2 = Training(
    "fsdp2",
    accelerate("fsdp2-gathered.yaml"),
    "train_trainer.py --per_device_train_batch_size 2 --gradient_accumulation_steps 2",
    "tiny-dropout",
)
FSDP1_LOOP = Training(
    "fsdp1-loop",
    accelerate("fsdp1-gathered.yaml"),
    "train_loop.py --per_device_train_batch_size 4",
    "tiny-dropout",
)
DDP = Training(
    "ddp",
    TORCHRUN,
    f"{TRAINER} --optim adamw_torch"
    " --eval_strategy steps --eval_steps 10 --per_device_eval_batch_size 8",
)
FSDP2_ONE_UNIT = Training(
    "fsdp2-one-unit", accelerate("fsdp2-one-unit.yaml"), TRAINER, "tiny-dropout"
)
ZERO1 = Training("zero1", TORCHRUN, f"{TRAINER} --deepspeed zero1-defaults.json")
ZERO3 = Training("zero3", TORCHRUN, f"{TRAINER} --deepspeed zero3-defaults.json", "tiny-dropout")
ZERO3_OFFLOAD = Training(
    "zero3-offload", TORCHRUN, f"{TRAINER} --deepspeed zero3-offload.json", "tiny-dropout"
)
ZERO3_CHECKPOINTING = Training(
    "zero3-checkpointing",
    ZERO3.launcher,
    f"{ZERO3.script} --activation_checkpointing true",
    "tiny-dropout",
)
"""What activation_checkpointing makes of ZERO3, word for word: it is not started twice."""
LORA_BF16 = Training(
    "lora-bf16",
    accelerate("ddp.yaml"),
    f"{LORA_SFT} --gradient_checkpointing false --dtype float32 --bf16 true",
    "tiny-bf16",
)
LORA = Training(
    "lora",
    accelerate("ddp.yaml"),
    f"{LORA_SFT} --lora_dropout 0.1 --gradient_checkpointing false"
    " --attn_implementation eager --bf16 false",
)

SUM_ORDER = "the batch is summed in other pieces"
RANKS_FIRST = "gradients are summed over ranks first, then over micro steps"
UNITS = "gradients are summed over the ranks unit by unit"
BUCKETS = "gradients are summed over the ranks in smaller buckets"
GROUPS = "the gradient norm is summed group by group"
STAGES = "gradients are summed over the ranks as each is ready"
OTHER_KERNEL = "AdamW's formula in one kernel, rounded at other places"
HOST_ADAM = "DeepSpeed's CPUAdam in place of torch's AdamW, and clipping on the host"
HOST_KERNEL = "on a GPU, AdamW's kernel for the host; here both are"
SCORES = "the softmax is summed in another order"
EVALUATION = (
    "training is the same; the evaluation averages the means of other batches, here within 1e-3"
)
NORMS = "norms of frozen weights are computed in bf16"
OTHER_DRAWS = "other dropout masks of the same distribution, as from another seed"
UNWEIGHTED = "an average of averages: short rows weigh more"

PROOFS = [
    Proof("expandable_segments", FSDP2, "same"),
    Proof("reshard_after_forward", FSDP2, "same"),
    Proof("reshard_after_forward", FSDP1_LOOP, "same"),
    Proof("activation_checkpointing", FSDP2, "same"),
    Proof("activation_checkpointing", ZERO3, "same"),
    Proof("activation_checkpointing", LORA, "same"),
    Proof("activation_checkpointing", FSDP1_LOOP, "same"),
    Proof("offload_activations", ZERO3_CHECKPOINTING, "same"),
    Proof("offload_params", ZERO3_OFFLOAD, "same"),
    Proof("stage3_live_parameters", ZERO3, "same", scaled=scaled(LIVE)),
    Proof("micro_batch", DDP, "equivalent", SUM_ORDER, ROUNDING),
    Proof("sharding", DDP, "equivalent", UNITS, ROUNDING),
    Proof("sharding", ZERO1, "equivalent", STAGES, ROUNDING, {"engine": "zero2"}),
    Proof("sharding", ZERO1, "equivalent", STAGES, ROUNDING, {"engine": "zero3"}),
    Proof("wrap_policy", FSDP2_ONE_UNIT, "equivalent", UNITS, ROUNDING),
    Proof("sync_each_batch", FSDP2, "equivalent", RANKS_FIRST, ROUNDING),
    Proof("deepspeed_buckets", ZERO1, "equivalent", BUCKETS, ROUNDING, scaled=scaled(BOTH_BUCKETS)),
    Proof("deepspeed_buckets", ZERO3, "equivalent", BUCKETS, ROUNDING, scaled=scaled(BUCKET)),
    Proof("sub_group_size", ZERO3, "equivalent", GROUPS, ROUNDING, scaled=scaled(GROUP)),
    Proof("attention_kernel", LORA, "equivalent", SCORES, ROUNDING),
    Proof("fused_optimizer", DDP, "equivalent", OTHER_KERNEL, ROUNDING),
    Proof("offload_optimizer", ZERO3, "equivalent", HOST_ADAM, ROUNDING),
    Proof("offload_optimizer", FSDP2, "equivalent", HOST_KERNEL, ROUNDING),
    Proof("evaluation_batch", DDP, "equivalent", EVALUATION, 0.0),
    Proof("frozen_base_dtype", LORA_BF16, "equivalent", NORMS, BF16_ROUNDING),
]
"""Every remedy that may be applied unasked, where it can run on a CPU."""

CONTRASTS = [
    Proof("micro_batch", FSDP1_LOOP, "changes_training", UNWEIGHTED),
    Proof("micro_batch", FSDP2, "equivalent", OTHER_DRAWS),
]
"""What the same measure says of trainings that are not the same: it can fail."""

NOT_PROVED = {
    "chunked_loss": "Liger's kernels are written in Triton, which wants a GPU; axolotl and torchtune pin other"
    " releases of torch's libraries; TRL does it unasked from 1.15 on",
    "context_parallel": "torch's ring attention has the CUDA kernels only"
    " (torch/distributed/tensor/experimental/_context_parallel/_attention.py, 2.13)",
    "engine_share": "vLLM beside the ranks wants a GPU",
    "engine_sleep": "vLLM beside the ranks wants a GPU",
}
"""A remedy that should keep the training and cannot run on a CPU -> why. It stands in preflight's UNPROVED."""
