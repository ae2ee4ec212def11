"""What the loop around a model keeps alive and how it takes the loss: plan fields, or the rule of trainer and version.

    feature                        plan field              rule where nobody says
    outputs across backward        keeps_outputs           OUTPUT_RULES, by trainer and version
    gradients across the forward   zero_grad_set_to_none   torch's default: kept as zeros before 2.0
    fused, foreach or for loop     optimizer_kernel        optimizer_kernel(), by name and version
    loss head                      loss                    LOSS_RULES, by trainer and version

`python -m preflight.derive.loop_table` prints what each costs, by formula and by trace.
"""

from __future__ import annotations

from typing import NamedTuple

from preflight.formulas.precision import version_of
from preflight.launch import LaunchPlan

HUGGING_FACE = ("transformers", "trl", "plain_loop", None)
"""Trainers whose loss is the one that transformers' model computes."""


class OutputRule(NamedTuple):
    """From this version on, a trainer's loop does or does not hold the logits while it runs backward."""

    trainer: str
    since: tuple[int, ...]
    keeps: bool
    source: str


OUTPUT_RULES = (
    OutputRule("transformers", (0,), False, "trainer.py compute_loss returns the loss alone"),
    OutputRule(
        "trl", (0,), False, "sft_trainer.py compute_loss reads outputs.logits and returns the loss"
    ),
    OutputRule("plain_loop", (0,), True, "outputs = model(**batch); outputs.loss.backward()"),
    OutputRule("torchtitan", (0,), True, "train.py, 2024-05: pred lives until it is made again"),
    OutputRule("torchtitan", (0, 1), False, "train.py:412 del pred (0.1.0)"),
    OutputRule("torchtune", (0,), True, "recipes/full_finetune_distributed.py:440 (0.1.1)"),
    OutputRule("torchtune", (0, 3), False, "full_finetune_distributed.py:651 del logits (0.3.1)"),
    OutputRule("litgpt", (0,), True, "finetune/lora.py: logits live until they are made again"),
)
"""In order; the last that is not newer than the installed version holds. See `oldest_known`."""


def oldest_known(plan: LaunchPlan, package: str) -> tuple[int, ...]:
    """Return a version as numbers; the oldest where nobody said, whose loops need most."""
    return version_of(plan, package) if plan.versions.get(package) else (0,)


def keeps_outputs(plan: LaunchPlan) -> bool:
    """Tell whether the logits live through backward and the step into the next forward."""
    if plan.keeps_outputs is not None:
        return plan.keeps_outputs
    rule = output_rule(plan)
    return rule is not None and rule.keeps


def output_rule(plan: LaunchPlan) -> OutputRule | None:
    """Return the rule of a plan's trainer and version; None for a trainer that is not known."""
    found = None
    for rule in OUTPUT_RULES:
        if rule.trainer == plan.trainer and rule.since <= oldest_known(plan, rule.trainer):
            found = rule
    return found


SET_TO_NONE_SINCE = (2, 0)
"""torch.optim and Module.zero_grad fill gradients with zeros before (torch/optim/optimizer.py zero_grad)."""


def drops_gradients(plan: LaunchPlan) -> bool:
    """Tell whether zero_grad frees gradients; DeepSpeed's does, whatever torch's default."""
    if plan.zero_stage is not None:
        return True
    if plan.zero_grad_set_to_none is not None:
        return plan.zero_grad_set_to_none
    return version_of(plan, "torch") >= SET_TO_NONE_SINCE


def finds_gradients(plan: LaunchPlan) -> bool:
    """Tell whether a forward begins with gradients there: of earlier micro steps, or zeros."""
    return plan.gradient_accumulation_steps > 1 or not drops_gradients(plan)


FOREACH_SINCE = (2, 0)
"""torch.optim takes foreach for CUDA tensors by default (torch/optim/optimizer.py _default_to_fused_or_foreach)."""
WITH_FOREACH = frozenset({"adamw_torch", "sgd", "rmsprop", "adagrad"})
"""Trainer's names of torch's own optimizers (transformers/trainer_optimizer.py, 5.24.0)."""


def optimizer_kernel(plan: LaunchPlan) -> str:
    """Return how the optimizer walks over tensors: foreach, fused or for_loop.

    A loop of one's own under DeepSpeed usually names its optimizer in DeepSpeed's config, where AdamW is
    FusedAdam (deepspeed/runtime/engine.py _configure_basic_optimizer, 0.19.8); one that hands torch's own
    to accelerate says so with `optimizer_kernel`, and Trainer always does.
    """
    if plan.optimizer not in WITH_FOREACH:
        return "fused"
    if plan.optimizer_kernel is not None:
        return plan.optimizer_kernel
    if plan.zero_stage is not None and plan.trainer == "plain_loop":
        return "fused"
    return "foreach" if version_of(plan, "torch") >= FOREACH_SINCE else "for_loop"


class LossBytes(NamedTuple):
    """Bytes per token and vocabulary entry of a loss over whole logits."""

    forward: int
    """At the peak of its forward, the logits among them."""
    backward: int
    """At the peak of its backward, without the logits that a loop keeps."""
    outputs: int
    """Of the logits that the model returns."""
    source: str


class LossRule(NamedTuple):
    """From this version on, a trainer's loss works like this."""

    trainer: str
    since: tuple[int, ...]
    upcasts_in_model: bool
    """The model returns fp32 logits, and its 16-bit ones are gone when the loss begins."""
    copies_shifted: bool
    """The logits of all positions but the last are copied, where there are several sequences."""
    source: str


LOSS_RULES = (
    LossRule("transformers", (0,), True, True, "models/llama/modeling_llama.py:1209-1214 (4.44.2)"),
    LossRule("transformers", (4, 45), False, True, "loss/loss_utils.py:36-39 (4.48.1)"),
    LossRule("transformers", (4, 49), False, False, "loss/loss_utils.py:61-69 (5.24.0)"),
    LossRule("torchtitan", (0,), True, False, "models/llama/model.py output.float() (2024-05)"),
    LossRule("torchtitan", (0, 1), False, False, "components/loss.py:20 (0.1.0), :60 (0.3.0)"),
    LossRule("torchtune", (0,), True, False, "modules/transformer.py:210 (0.1.1), :659 (0.6.1)"),
    LossRule(
        "litgpt",
        (0,),
        False,
        False,
        "as if chunked_cross_entropy (utils.py:302, 0.5.13) did not chunk",
    ),
)
"""Cross entropy takes 4 bytes in forward (log-probabilities) and 12 in backward (those, the gradient of
nll_loss and that of log_softmax: aten/src/ATen/native/LossNLL.cpp); what differs is what comes before."""


def loss_rule(plan: LaunchPlan) -> LossRule:
    """Return the rule of a plan's trainer and version."""
    package = "transformers" if plan.trainer in HUGGING_FACE else plan.trainer
    version = version_of(plan, "transformers")
    if package != "transformers":
        version = oldest_known(plan, str(package))
    found = LOSS_RULES[0]
    for rule in LOSS_RULES:
        if rule.trainer == package and rule.since <= version:
            found = rule
    return found


def loss_bytes(plan: LaunchPlan, size: int, casts_outputs: bool = False) -> LossBytes:
    """Return the bytes per logit of a plan whose head makes logits of `size` bytes.

    `casts_outputs`: accelerate returns fp32 copies of 16-bit outputs (accelerator.py:1830, 1.15.0).
    """
    rule = loss_rule(plan)
    copy = 4 if rule.copies_shifted and (plan.micro_batch_size or 1) > 1 else 0
    upcast = 4 if size != 4 else 0
    held = 4 if rule.upcasts_in_model else size + upcast
    forward = max(size + upcast, held + copy + 4)
    outputs = 4 if rule.upcasts_in_model or casts_outputs else size
    return LossBytes(forward, 12, outputs, f"{rule.trainer}: {rule.source}")


FUSED_HEAD_SINCE = (1, 15)
"""TRL's SFT takes the loss with add_fused_lm_head (trainer/utils.py:1548, 1.16.0); 1.7 to 1.14 took it in chunks of
256 tokens under checkpointing (_chunked_cross_entropy_loss, sft_trainer.py:121, 1.14.0)."""
