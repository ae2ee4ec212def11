"""What OpenRLHF's own losses take of logits: the model's, cast to fp32, are held by what it returns.

Source: models/actor.py Actor.forward, models/utils.py log_probs_from_logits, models/loss.py GPTLMLoss, trainer/sft_trainer.py,
dpo_trainer.py and ray/ppo_actor.py training_step of OpenRLHF 0.3.8 to 0.11.2. Counted by tests/scripts/test_openrlhf_steps.py.
"""

from __future__ import annotations

from collections.abc import Sequence

from preflight.launch_facts import LogitsBytes, StepLoss
from preflight.setting import Place
from preflight.versions.openrlhf import SCORES_BY_KERNEL, SUMS_ROWS


def has_kernel(version: str) -> bool:
    """Tell whether a release takes log-probabilities by flash-attn's kernel."""
    return SCORES_BY_KERNEL.holds_in({SCORES_BY_KERNEL.library: version})


def sft_bytes(version: str, copies: bool) -> LogitsBytes:
    """Return what SFT takes, in bytes per logit; before 0.7 several rows are copied where they are cut."""
    if has_kernel(version):
        return LogitsBytes(6, 4, 0, 10, 4, 6)
    forward = 12 if copies else 8
    return LogitsBytes(forward, 8, 0, 16, 4, forward)


def log_probability_bytes(version: str) -> LogitsBytes:
    """Return what DPO's log-probabilities take, in bytes per logit of both answers."""
    if has_kernel(version):
        return LogitsBytes(6, 4, 10, 8, 0, 6)
    return LogitsBytes(12, 4, 16, 12, 0, 12)


def policy_bytes(version: str, has_flash: bool) -> LogitsBytes:
    """Return what an update of PPO on Ray takes, in bytes per logit, whose outputs live until it is done.

    Without flash-attn's kernel 1,024 tokens are scored at once, each with a gradient as large as all logits; before 0.7
    (0.6.4 with the kernel, which copies cut logits, 0.5.9 without) a row is. Before those a softmax of all logits is
    kept, which are fp32 where transformers casts them, or 0.5.6 does.
    """
    if not SUMS_ROWS.holds_in({SUMS_ROWS.library: version}):
        return LogitsBytes(12, 4, 0, 16, 0, 12)
    if not has_kernel(version):
        return LogitsBytes(8, 4, 0, 12, 0, 8)
    return LogitsBytes(6, 4, 0, 10, 0, 6) if has_flash else LogitsBytes(8, 4, 0, 16, 0, 8)


def dearest(ways: Sequence[LogitsBytes]) -> LogitsBytes:
    """Return the most that any of some ways takes at each point."""
    return LogitsBytes(*map(max, zip(*ways, strict=True)))


def step_of(trainer: str, version: str, copies: bool, place: Place) -> StepLoss | None:
    """Return what a trainer's step makes of logits; None for a reward model, which has none.

    DPO holds a second copy of the model, which DeepSpeed's stage 3 partitions and others hold whole
    (cli/train_dpo.py, utils/deepspeed/deepspeed_utils.py get_eval_ds_config).
    """
    if trainer == "rm":
        return None
    if trainer == "sft":
        taken = sft_bytes(version, copies)
        return StepLoss(place, taken, taken)
    taken = log_probability_bytes(version)
    return StepLoss(
        place, taken, taken,
        has_pairs=True, compares="reference", has_copy=True, partitions_copy=True,
    )  # fmt: skip
