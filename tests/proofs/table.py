"""Which remedies are proved, with which launches, and how near the trainings must be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from proving import Training

ROUNDING = 1e-5
"""Of a step's loss, in fp32: sums in another order differ by some 1e-7, and 20 steps of Adam let that grow."""


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
        return f"{self.remedy}-{self.training.name}"


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
ZERO3 = Training("zero3", TORCHRUN, f"{TRAINER} --deepspeed zero3-defaults.json", "tiny-dropout")
LORA = Training(
    "lora",
    accelerate("ddp.yaml"),
    f"{LORA_SFT} --lora_dropout 0.1 --gradient_checkpointing false"
    " --attn_implementation eager --bf16 false",
)

SUM_ORDER = "the batch is summed in other pieces"
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
    Proof("micro_batch", DDP, "equivalent", SUM_ORDER, ROUNDING),
]
"""Every remedy that may be applied unasked, where it can run on a CPU."""

CONTRASTS = [
    Proof("micro_batch", FSDP1_LOOP, "changes_training", UNWEIGHTED),
    Proof("micro_batch", FSDP2, "equivalent", OTHER_DRAWS),
]
"""What the same measure says of trainings that are not the same: it can fail."""

NOT_PROVED: dict[str, str] = {}
"""A remedy that is applied unasked and cannot run on a CPU -> why."""
