"""What the loop around a model keeps alive and how it takes the loss: plan fields, or the rule of trainer and version.

    feature                        plan field              rule where nobody says
    outputs across backward        keeps_outputs           OUTPUT_RULES, by trainer and version
    a graph across the forward     -                       KEEPS_GRAPH, by trainer
    gradients across the forward   zero_grad_set_to_none   torch's default: kept as zeros before 2.0
    fused, foreach or for loop     optimizer_kernel        formulas/optimizers.py, by name and version
    loss head                      loss                    LOSS_RULES, by trainer and version

docs/user-loop.md says what each costs, by formula and by trace.
"""

from __future__ import annotations

from preflight.formulas.objective import num_sequences
from preflight.formulas.tensor_parallel import cuts_stream
from preflight.formulas.texts import caches_gradients
from preflight.launch import LaunchPlan
from preflight.plan_choices import HF_TRAINERS
from preflight.values import NamedTuple
from preflight.versions import torchtitan, torchtune, transformers
from preflight.versions.boundary import NEWEST, OLDEST, Boundary, has_begun
from preflight.versions.torch import ZERO_GRAD_SETS_NONE

HUGGING_FACE = (*HF_TRAINERS, "plain_loop", None)
"""Trainers whose loss is the one that transformers' model computes."""


class OutputRule(NamedTuple):
    """From this release on, a trainer's loop does or does not hold the logits while it runs backward."""

    trainer: str
    since: Boundary | None
    keeps: bool
    source: str


OUTPUT_RULES = (
    OutputRule("transformers", None, False, "trainer.py compute_loss returns the loss alone"),
    OutputRule(
        "trl", None, False, "sft_trainer.py compute_loss reads outputs.logits and returns the loss"
    ),
    OutputRule("plain_loop", None, True, "outputs = model(**batch); outputs.loss.backward()"),
    OutputRule("torchtitan", None, True, "train.py, 2024-05: pred lives until it is made again"),
    OutputRule("torchtitan", torchtitan.DELETES_LOGITS, False, "train.py:412 del pred (0.1.0)"),
    OutputRule("torchtune", None, True, "recipes/full_finetune_distributed.py:440 (0.1.1)"),
    OutputRule(
        "torchtune",
        torchtune.DELETES_LOGITS,
        False,
        "full_finetune_distributed.py:651 del logits (0.3.1)",
    ),
    OutputRule("litgpt", None, True, "finetune/lora.py: logits live until they are made again"),
)
"""In order; the last that has begun in the installed release holds. Where nobody said a release, it is the oldest,
whose loops need most."""


def keeps_outputs(plan: LaunchPlan) -> bool | str:
    """Return how long the logits live after the loss: True, into the next forward; `step`, through the optimizer's step;
    `backward`, until it; False, not at all."""
    if plan.keeps_outputs is not None:
        return plan.keeps_outputs
    rule = output_rule(plan)
    return rule is not None and rule.keeps


KEEPS_GRAPH = frozenset({"litgpt", "plain_loop"})
"""Trainers whose loop has the loss of a step until it makes the next one, and with it all nodes of its graph."""


def output_rule(plan: LaunchPlan) -> OutputRule | None:
    """Return the rule of a plan's trainer and version; None for a trainer that is not known."""
    rules = [
        rule
        for rule in OUTPUT_RULES
        if rule.trainer == plan.trainer and has_begun(rule.since, plan.versions, OLDEST)
    ]
    return rules[-1] if rules else None


def drops_gradients(plan: LaunchPlan) -> bool:
    """Tell whether zero_grad frees gradients; DeepSpeed's does, whatever torch's default."""
    if plan.zero_stage is not None:
        return True
    if plan.zero_grad_set_to_none is not None:
        return plan.zero_grad_set_to_none
    return ZERO_GRAD_SETS_NONE.holds_in(plan.versions)


def finds_gradients(plan: LaunchPlan) -> bool:
    """Tell whether a forward begins with gradients there: of earlier micro steps, or zeros."""
    if plan.optimizer_in_backward:
        return False
    is_again = plan.gradient_accumulation_steps > 1 or caches_gradients(plan)
    return is_again or not drops_gradients(plan)


def has_one_gradient(plan: LaunchPlan) -> bool:
    """Tell whether a backward has one gradient at a time: one that is added to what is there, or stepped with at once.

    FSDP has those of a unit at a time, which memory_model_states and memory_sharding count.
    """
    return finds_gradients(plan) or (plan.optimizer_in_backward and not plan.is_fsdp)


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
    """From this release on, a trainer's loss works like this."""

    trainer: str
    since: Boundary | None
    upcasts_in_model: bool
    """The model returns fp32 logits, and its 16-bit ones are gone when the loss begins."""
    copies_shifted: bool
    """The logits of all positions but the last are copied, where there are several sequences."""
    source: str
    only: frozenset[str] = frozenset()
    """The model types that it holds for; empty: all but `others`."""
    others: frozenset[str] = frozenset()
    upcasts: bool = True
    """False where the loss is taken in the logits' own dtype, unless autocast makes it fp32."""


IN_OWN_DTYPE = frozenset(
    {
        "gpt2", "gpt_neox", "gpt_neox_japanese", "gpt_bigcode", "falcon", "opt", "bloom", "stablelm",
        "persimmon", "mpt", "openai-gpt", "biogpt", "xglm",
        "bert", "roberta", "xlm-roberta", "camembert", "data2vec-text", "electra", "ernie", "megatron-bert", "roberta-prelayernorm",
        "xlm-roberta-xl", "roformer", "xmod", "roc_bert", "big_bird", "rembert",
    }
)  # fmt: skip
"""Types whose own loss cast nothing before they took the common one."""
MISTRAL = frozenset({"mistral"})
QWEN_VL = frozenset({"qwen2_vl_text", "qwen2_5_vl_text"})
OF_HUB_CODE = frozenset({"chatglm", "chatglm1"})
"""Types whose loss is that of the code beside their weights, whatever transformers does."""
UPCASTS_LONGEST = frozenset(
    {"granitemoe", "granitemoeshared", "granitemoehybrid", "gpt_neo", "gptj", "codegen"}
)
PARALLEL_LOSS = (
    "torch/distributed/tensor/parallel/loss.py (2.13), torchtitan/components/loss.py:78-190 (0.3.0)"
)
LOSS_RULES = (
    LossRule("transformers", None, True, True, "models/llama/modeling_llama.py:1209-1214 (4.44.2)"),
    LossRule(
        "transformers",
        None,
        False,
        True,
        "models/gpt_bigcode/modeling_gpt_bigcode.py, gpt_neox, falcon, opt, bloom (4.36.2 to 4.48.1)",
        only=IN_OWN_DTYPE,
        upcasts=False,
    ),
    LossRule(
        "transformers",
        transformers.LOSS_UPCASTS_LOGITS,
        False,
        True,
        "loss/loss_utils.py:36-39 (4.48.1)",
        others=IN_OWN_DTYPE | MISTRAL | QWEN_VL | UPCASTS_LONGEST,
    ),
    LossRule(
        "transformers",
        transformers.MISTRAL_LOSS_UPCASTS_LOGITS,
        False,
        True,
        "models/mistral/modeling_mistral.py (4.47.1, 4.48.1)",
        only=MISTRAL,
    ),
    LossRule(
        "transformers",
        transformers.LOSS_PADS_LABELS,
        False,
        False,
        "loss/loss_utils.py:61-69 (5.24.0)",
        others=QWEN_VL | UPCASTS_LONGEST,
    ),
    LossRule(
        "transformers",
        transformers.QWEN2_VL_TAKES_COMMON_LOSS,
        False,
        False,
        "models/qwen2_vl/modeling_qwen2_vl.py (4.52.4)",
        only=QWEN_VL,
    ),
    LossRule(
        "transformers",
        transformers.LOSS_PADS_LABELS,
        True,
        False,
        "models/granitemoe/modeling_granitemoe.py, gpt_neo, gptj, codegen: logits in fp32 (4.57.6)",
        only=UPCASTS_LONGEST,
    ),
    LossRule(
        "transformers",
        transformers.GRANITE_MIXTURES_LEAVE_LOGITS,
        False,
        False,
        "loss/loss_utils.py:61-69 (5.24.0)",
        only=UPCASTS_LONGEST,
    ),
    LossRule(
        "transformers",
        None,
        False,
        True,
        "modeling_chatglm.py of THUDM/chatglm3-6b: in fp32, shifted, and back in 16 bits",
        only=OF_HUB_CODE,
    ),
    LossRule("torchtitan", None, True, False, "models/llama/model.py output.float() (2024-05)"),
    LossRule(
        "torchtitan",
        torchtitan.LOSS_UPCASTS_LOGITS,
        False,
        False,
        "components/loss.py:20 (0.1.0), :60 (0.3.0)",
    ),
    LossRule("torchtune", None, True, False, "modules/transformer.py:210 (0.1.1), :659 (0.6.1)"),
    LossRule(
        "litgpt",
        None,
        False,
        False,
        "as if chunked_cross_entropy (utils.py:302, 0.5.13) did not chunk",
    ),
)
"""Cross entropy takes 4 bytes in forward (log-probabilities) and 12 in backward (those, the gradient of
nll_loss and that of log_softmax: aten/src/ATen/native/LossNLL.cpp); what differs is what comes before."""


OWN_MODEL_CODE = frozenset(rule.trainer for rule in LOSS_RULES) - {"transformers"}


def has_own_model_code(plan: LaunchPlan) -> bool:
    """Tell whether the trainer brings the model's code, and transformers' and PEFT's do not run.

    Such a trainer's loss has rules of its own, and its FSDP2 wraps the layers and one rest around them.
    """
    return plan.trainer in OWN_MODEL_CODE


def loss_rule(plan: LaunchPlan, model_type: str) -> LossRule:
    """Return the rule of a plan's trainer and version, for one type of model."""
    if plan.trainer in HUGGING_FACE:
        package, unknown = "transformers", NEWEST
    else:
        package, unknown = str(plan.trainer), OLDEST
    rules = [
        rule
        for rule in LOSS_RULES
        if rule.trainer == package
        and has_begun(rule.since, plan.versions, unknown)
        and (model_type in rule.only if rule.only else model_type not in rule.others)
    ]
    return rules[-1] if rules else LOSS_RULES[0]


def loss_bytes(
    plan: LaunchPlan,
    size: int,
    casts_outputs: bool = False,
    model_type: str = "",
    autocast: bool = False,
) -> LossBytes:
    """Return the bytes per logit of a plan whose head makes logits of `size` bytes.

    `casts_outputs`: accelerate returns fp32 copies of 16-bit outputs (accelerator.py:1830, 1.15.0).
    `autocast`: cross entropy is on its fp32 list (aten/src/ATen/autocast_mode.h).
    """
    rule = loss_rule(plan, model_type)
    source = f"{rule.trainer}: {rule.source}"
    if not rule.upcasts and size != 4:
        # three times as much by the operations; seven runs of GPTBigCode have one more alive through backward
        forward, backward = (2 * size + 8, 2 * size + 12) if autocast else (4 * size, 4 * size)
        return LossBytes(forward, backward, 4 if casts_outputs else size, source)
    held_copy = size if holds_copy(plan) else 0
    is_copied = rule.copies_shifted and num_sequences(plan) > 1 and not held_copy
    copy = 4 if is_copied else 0
    upcast = 4 if size != 4 else 0
    held = 4 if rule.upcasts_in_model else size + upcast
    forward = max(size + upcast, held + copy + 4)
    outputs = 4 if rule.upcasts_in_model or casts_outputs else size
    if cuts_stream(plan):
        # shifted logits beside their exponentials, then log-probabilities; gradient, exponentials, sum and product
        return LossBytes(forward + 4, 16, outputs, f"{source}; {PARALLEL_LOSS}")
    return LossBytes(forward + held_copy, 12, outputs + held_copy, source)


def holds_copy(plan: LaunchPlan) -> bool:
    """Tell whether a loop holds a copy of all positions but the last beside the logits, as verl's SFT does of several rows.

    Both are names of a function that takes the gradient too (verl/trainer/fsdp_sft_trainer.py shift_logits, 0.2.0 to 0.6.1);
    one row alone is cut without a copy.
    """
    is_sft = plan.launcher == "verl" and plan.objective == "sft"
    return is_sft and num_sequences(plan) > 1 and plan.sequence_kind == "padded"
