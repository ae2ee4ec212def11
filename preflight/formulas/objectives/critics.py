"""The critic of verl's PPO: a value model that is trained beside the actor, in an update of its own.

Its update holds what the actor's does with as many rows, but for logits; what both keep between updates, parameters and
optimizer states in the dtype that they are loaded in, is there in each of them, unless all of it is moved to the host
(workers/fsdp_workers.py CriticWorker, 0.2.0 to 0.7.1; engine_workers.py, 0.9.1).
"""

from __future__ import annotations

from preflight.bool_words import is_true
from preflight.formulas.objectives.actor_losses import trains_actor
from preflight.formulas.objectives.forward_alone import gathered_in_forward
from preflight.formulas.objectives.reward_models import layer_at_hand
from preflight.formulas.precision import precision_of
from preflight.formulas.sharding import held_tensors, local_elements, num_tokens
from preflight.launch import LaunchPlan
from preflight.memory import ALWAYS, MemoryTerm, Moment
from preflight.model import ModelSpec
from preflight.units import dtype_bytes
from preflight.values import replace
from preflight.versions.verl import RECOMPUTES_BY_DEFAULT

SECTION = "critic.model.fsdp_config"
KEPT = ("parameters of the critic", "optimizer states of the critic")
"""Terms of what a critic surely keeps between updates, in the estimate that its bounds stand beside."""
USUAL = {
    "critic.enable": (True,),
    "critic.strategy": ("fsdp", "fsdp2"),
    "critic.optim.optimizer": ("AdamW",),
    "critic.optim.optimizer_impl": ("torch.optim",),
    "critic.model.lora_rank": (0,),
    f"{SECTION}.offload_policy": (False,),
}
"""Keys by which a critic may be none or keep less than is counted -> the values with which it keeps that."""
CHECKPOINTS = "critic.model.enable_gradient_checkpointing"
OFFLOADS = ("param_offload", "optimizer_offload")
"""Keys of SECTION by which each of KEPT is on the host between updates."""
FP32 = ("fp32", "float32", "32", 32)
ADAM = 3
"""A parameter and its two states."""

WITH_VALUES = frozenset(
    ["gemma", "gemma2", "llama", "mistral", "mixtral", "phi3", "qwen2", "qwen2_moe", "qwen3"]
)
"""Types of which verl's critic has one number per token for a head: transformers has a class of it (modeling_auto.py
MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES, 4.44.2 to 5.24.0). Of another it may be TRL's, which makes logits as well
(verl/utils/model.py load_valuehead_model, 0.5 to 0.7.1)."""
OF_ACTOR = frozenset(
    [
        "gradient of the logits", "logits and log-probabilities, backward", "logits and log-probabilities, forward",
        "scoring of completions",
    ]
)  # fmt: skip
"""Terms of an actor that no update of its critic has."""
KEPT_BY_HEAD = 8
"""Bytes of a token and hidden value at most: what the head is given in 16 bits, what a dropout makes of it with its mask, and
a gradient (transformers/models/qwen2/modeling_qwen2.py Qwen2ForTokenClassification, 4.44.2)."""


def update_of_critic(
    plan: LaunchPlan, model: ModelSpec
) -> tuple[LaunchPlan, tuple[MemoryTerm, ...]] | None:
    """Return the plan that a critic's update is, beside its OF_ACTOR, and what its head and the values that it gives before
    take; None where it makes logits, or where an update of the actor's with as many rows is all that is known of it."""
    generation = plan.generation
    if model.model_type not in WITH_VALUES or generation is None or not trains_actor(plan):
        return None
    checkpointing = "full" if recomputes(plan) else "none"
    one = replace(
        plan, micro_batch_size=generation.critic_rows, activation_checkpointing=checkpointing
    )
    tokens = num_tokens(one) or 0
    num_bytes = tokens * (KEPT_BY_HEAD * model.hidden_size + 64)
    formula = f"{tokens:,} x ({KEPT_BY_HEAD} x {model.hidden_size:,} + 64)"
    moments = frozenset({Moment.LOSS_FORWARD, Moment.LOSS_BACKWARD, Moment.HEAD_BACKWARD})
    head = MemoryTerm("the critic's head", num_bytes, moments, formula, SECTION)
    rows = generation.critic_scored_rows
    if not rows or not plan.seq_len:
        return one, (head,)
    passing = layer_at_hand(plan, model, rows) + sum(gathered_in_forward(plan, model))
    scoring = frozenset({Moment.SCORING})
    values = MemoryTerm(
        "values of the critic", passing, scoring, f"{rows} rows: {passing:,}", SECTION
    )
    return one, (head, values)


def states_of_critic(plan: LaunchPlan, model: ModelSpec) -> MemoryTerm | None:
    """Return what a critic of the policy's shapes holds beside the actor at most; None where it has other shapes, or
    nobody says how many rows its micro batch has."""
    generation = plan.generation
    if not trains_actor(plan) or generation is None or generation.critic_rows is None:
        return None
    if plan.adapter is not None:
        return None  # it trains whole all the same, or adapters of its own
    moved = generation.offloads_params and generation.offloads_optimizer
    moved = moved and all(_is_on(plan, name) for name in OFFLOADS)
    elements = _elements(plan, model)
    # gradients of a critic in fp32 are wider than those of an actor in 16 bits, which are counted
    copies_of_each = ADAM if dtype_bytes(precision_of(plan, model).gradient) == 4 else ADAM + 1
    num_bytes = 0 if moved else 4 * copies_of_each * elements
    formula = f"{copies_of_each} x {elements:,} x 4 (fp32)"
    if moved:
        formula = "on the host between its updates"
    return MemoryTerm("parameters and states of the critic", num_bytes, ALWAYS, formula, SECTION)


def kept_by_critic(plan: LaunchPlan, model: ModelSpec) -> list[MemoryTerm]:
    """Return what a critic of the policy's shapes surely keeps on the card between its updates, but for its head."""
    generation, said = plan.generation, plan.trainer_facts
    if generation is None or generation.critic_rows is None or plan.adapter is not None:
        return []
    if any(said.value(name, usual[0]) not in usual for name, usual in USUAL.items()):
        return []
    elements = _elements(plan, model)
    size = 4 if said.value(f"{SECTION}.model_dtype", FP32[0]) in FP32 else 2
    return [
        MemoryTerm(
            name, copies * size * elements, ALWAYS, f"{copies} x {elements:,} x {size}", SECTION
        )
        for name, copies, key in zip(KEPT, (1, ADAM - 1), OFFLOADS, strict=True)
        if said.value(f"{SECTION}.{key}", False) is False
    ]


def _elements(plan: LaunchPlan, model: ModelSpec) -> int:
    """Return what a rank has of the parameters that a critic of the policy's shapes has too: all but the head's."""
    layers = (held for held in held_tensors(plan, model) if held.unit.role != "lm_head")
    return sum(held.count * local_elements(plan, held) for held in layers)


def recomputes(plan: LaunchPlan) -> bool:
    """Tell whether a critic surely checkpoints its activations, as an actor may that it is bounded by."""
    by_default = RECOMPUTES_BY_DEFAULT.holds_in(plan.versions)
    return is_true(plan.trainer_facts.value(CHECKPOINTS, by_default))


def _is_on(plan: LaunchPlan, name: str) -> bool:
    return is_true(plan.trainer_facts.value(f"{SECTION}.{name}"))
