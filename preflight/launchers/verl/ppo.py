"""The PPO trainer of verl in plan fields: actor, rollout and reference on one pool of GPUs; a critic is named.

Source: trainer/config/ppo_trainer.yaml, trainer/main_ppo.py and workers/fsdp_workers.py of verl 0.2 to 0.9.1.
"""

from __future__ import annotations

from dataclasses import replace

from preflight.formulas.objectives.actor_losses import ACTOR, ROLLOUT
from preflight.launch import Generation
from preflight.launchers.framework_keys import FrameworkKeys, NotModelled
from preflight.launchers.not_read import DOES_NOT_TRAIN
from preflight.launchers.verl.keys import FSDP, KEYS, MODEL, RING
from preflight.launchers.verl.own_keys import read_own_lengths
from preflight.launchers.verl.workers import (
    MANY,
    OF_ENGINE,
    counts_tokens,
    name_rest,
    put_rows,
    read_adapter,
    read_checkpointing,
    read_dtype,
    read_offload,
    read_padding,
    read_rest,
    read_sharding,
    rows_beyond,
    rows_in_room,
    rows_of,
)
from preflight.setting import Place, Setting
from preflight.units import ceil_div
from preflight.unpriced_names import CRITIC, OTHER_ACCELERATOR, REWARD_MODEL, SGLANG, TEACHER
from preflight.versions.verl import RECOMPUTES_BY_DEFAULT, REFERENCE_IF_ASKED, SERVES_ITS_ENGINE

ACTOR_STRATEGIES = (f"{ACTOR}.strategy", f"{ACTOR}.fsdp_config.strategy", "model_engine")
"""Keys that say whose workers the actor has; `model_engine=dp` is FSDP."""
ESTIMATORS = {"gae": "ppo", "rloo": "rloo"}
"""`algorithm.adv_estimator` -> what it trains for; every other compares completions of a group, as GRPO does."""

OF_PPO = KEYS["ppo"]
REWARD = "reward_model"
ENGINE_OF_REWARDS = NotModelled(
    "the engine that scores is not counted", "an engine of a reward model", "more"
)
NOT_PRICED = {
    f"{ACTOR}.entropy_from_logits_with_chunking": NotModelled(
        "the entropy is estimated of all logits at once", "an entropy in chunks", "less"
    ),
    f"{ACTOR}.entropy_checkpointing": NotModelled(
        "the entropy is estimated as kept", "an entropy that is computed again", "less"
    ),
    f"{ACTOR}.calculate_sum_pi_squared": NotModelled(
        "its squares are not counted", "the squares of probabilities", "more"
    ),
    f"{ACTOR}.qat.enable": OF_ENGINE["qat.enable"],
    "reward.reward_model.enable": ENGINE_OF_REWARDS,
    "distillation.enabled": NotModelled("the teacher is not counted", TEACHER, "more"),
    f"{MODEL}.mtp.enable": NotModelled("its layers are not counted", "layers of an MTP", "more"),
}
"""Key that is on -> what no formula holds of it."""


DECIDE = (
    "algorithm.adv_estimator", f"{FSDP}.model_dtype", f"{FSDP}.param_offload", f"{FSDP}.optimizer_offload",
    f"{ACTOR}.use_kl_loss", f"{MODEL}.enable_gradient_checkpointing", f"{MODEL}.lora_rank",
    f"{MODEL}.use_remove_padding", f"{ROLLOUT}.free_cache_engine", f"{ROLLOUT}.gpu_memory_utilization",
    f"{ROLLOUT}.log_prob_micro_batch_size_per_gpu", f"{ROLLOUT}.tensor_model_parallel_size",
)  # fmt: skip
"""Keys that decide what is estimated, and have a default where nobody says them."""


def read_ppo(keys: FrameworkKeys, ranks: int) -> None:
    """Fill in every plan field that the configuration decides, and name what no formula holds of the workers."""
    estimator = keys.get("algorithm.adv_estimator")
    objective = "ppo" if estimator is None else ESTIMATORS.get(str(estimator.value), "grpo")
    keys.decide("objective", objective, estimator, reason="no algorithm.adv_estimator: gae")
    model = keys.put_text("model", f"{MODEL}.path")
    read_dtype(keys, f"{FSDP}.model_dtype")
    read_sharding(keys, keys.get(*ACTOR_STRATEGIES), "fsdp", f"{FSDP}.fsdp_size", ranks)
    read_adapter(keys, MODEL)
    recomputes = RECOMPUTES_BY_DEFAULT.holds_in(keys.library.versions)
    read_checkpointing(keys, OF_PPO["activation_checkpointing"], recomputes)
    read_offload(keys, OF_PPO["offload_params"])
    longest = _length(keys)
    read_own_lengths(keys)
    _batch(keys, longest, ranks)
    _generation(keys, longest, ranks)
    read_rest(keys, MODEL, FSDP, f"{ACTOR}.optim")
    keys.assume("keeps_outputs", False, "they live until log-probabilities are returned")
    _others(keys, objective, model or estimator)
    validates = keys.get("trainer.val_only")
    is_first = keys.value("trainer.val_before_train", True) is not False
    if validates is not None and validates.value is True and is_first:
        nothing = "nothing is trained: trainer.val_only ends it after the validation before the first step"
        keys.note("PF140", nothing, validates, "trainer.val_only=false", unpriced=DOES_NOT_TRAIN)


def _length(keys: FrameworkKeys) -> int:
    """Put the longest sequence; a prompt is cut or dropped at its own length, an answer at its own."""
    prompt, answer = keys.count("data.max_prompt_length"), keys.count("data.max_response_length")
    longest = (512 if prompt is None else prompt.value) + (512 if answer is None else answer.value)
    said = [setting for setting in (answer, prompt) if setting is not None]
    if any(keys.is_unknown(f"data.max_{each}_length") for each in ("prompt", "response")):
        return int(longest)  # another program fills it in
    keys.decide(
        "seq_len", longest, *said, reason="no data.max_prompt_length and data.max_response_length"
    )
    return int(longest)


UPDATE = (
    "ppo_micro_batch_size_per_gpu", "ppo_micro_batch_size", "use_dynamic_bsz", "ppo_max_token_len_per_gpu",
)  # fmt: skip
SCORING = (
    "log_prob_micro_batch_size_per_gpu", "log_prob_micro_batch_size", "log_prob_use_dynamic_bsz",
    "log_prob_max_token_len_per_gpu",
)  # fmt: skip


SCORED = (
    "micro_batch_size_per_gpu",
    "micro_batch_size",
    "use_dynamic_bsz",
    "forward_max_token_len_per_gpu",
)
TOKENS = (
    f"{REWARD}.forward_max_token_len_per_gpu", "critic.forward_max_token_len_per_gpu", "critic.ppo_max_token_len_per_gpu",
)  # fmt: skip
OF_VALUES = (
    "forward_micro_batch_size_per_gpu", "forward_micro_batch_size", "use_dynamic_bsz", "forward_max_token_len_per_gpu",
)  # fmt: skip
RING_OF_CRITIC = "critic.ulysses_sequence_parallel_size"
MINI_BATCH = 256
"""Prompts of an update where nobody says it (trainer/config, 0.2 to 0.9.1)."""
FORWARD_TOKENS = 32768
"""Of a critic's update and a reward model's forward where nobody says it (critic.*_max_token_len_per_gpu)."""


def _batch(keys: FrameworkKeys, longest: int, ranks: int) -> None:
    """Put the micro batch of an update, and whether its rows are padded."""
    rows = rows_of(keys, ACTOR, UPDATE, longest, ranks)
    if rows is not None:
        least, most, at = rows
        mini = keys.count(f"{ACTOR}.ppo_mini_batch_size")
        number = keys.count(f"{ROLLOUT}.n")
        whole = MINI_BATCH if mini is None else mini.value
        rows_of_rank = whole * (1 if number is None else number.value) // ranks
        beyond = 0
        if counts_tokens(keys, "ppo"):
            names = (f"{ACTOR}.ppo_mini_batch_size", f"{ROLLOUT}.n")
            of_rank = MANY if any(map(keys.is_unknown, names)) else rows_of_rank
            tokens, ring = keys.count(f"{ACTOR}.{UPDATE[3]}"), keys.count(RING)
            room = 16384 if tokens is None else int(tokens.value)
            over = 1 if ring is None else int(ring.value)
            least, most, beyond = rows_in_room(keys, room, longest, of_rank, over)
        put_rows(keys, least, most, at, beyond)
        steps = max(1, rows_of_rank // most)
        if mini is not None:
            keys.put("gradient_accumulation_steps", steps, mini)
        elif not keys.is_unknown(f"{ACTOR}.ppo_mini_batch_size"):
            keys.assume("gradient_accumulation_steps", steps, f"{MINI_BATCH} rows of prompts")
    read_padding(keys, MODEL)


def _generation(keys: FrameworkKeys, longest: int, ranks: int) -> None:
    """Put how completions are made, how many are scored at once, and what leaves the card for it."""
    prompt, answer = keys.count("data.max_prompt_length"), keys.count("data.max_response_length")
    share = keys.number(OF_PPO["generation.memory_share"])
    tensor, number = (
        keys.count(f"{ROLLOUT}.{name}") for name in ("tensor_model_parallel_size", "n")
    )
    scored = [
        rows[1]
        for above in (ROLLOUT, "actor_rollout_ref.ref")
        if (rows := rows_of(keys, above, SCORING, longest, ranks)) is not None
    ]
    of_critic = _critic_rows(keys, longest, ranks)
    generation = Generation(
        engine="vllm",
        memory_share=0.5 if share is None else share.value,
        tensor_parallel_degree=2 if tensor is None else tensor.value,
        sleep=keys.value(OF_PPO["generation.sleep"], True) is not False,
        max_prompt_len=None if prompt is None else prompt.value,
        max_completion_len=512 if answer is None else answer.value,
        num_generations=1 if number is None else number.value,
        rollout_rows=max(scored, default=None),
        gathers_parameters=not keys.is_on(f"{ROLLOUT}.layered_summon"),
        scores_again=True,
        critic_rows=of_critic[0],
        critic_scored_rows=of_critic[1],
        reward_rows=_reward_rows(keys, longest, ranks),
        offloads_params=keys.is_on(f"{FSDP}.param_offload"),
        offloads_optimizer=keys.is_on(f"{FSDP}.optimizer_offload"),
    )
    name = keys.get(f"{ROLLOUT}.name")
    if name is not None and name.value != "vllm":
        message = f"the share of {name.value} is estimated as vLLM's"
        unpriced = SGLANG if name.value == "sglang" else str(name.value)
        keys.leave_out(NotModelled(message, unpriced, "either"), name)
    keys.decide(
        "generation",
        generation,
        name,
        reason="vllm, unless actor_rollout_ref.rollout.name says otherwise",
    )


def _critic_rows(keys: FrameworkKeys, longest: int, ranks: int) -> tuple[int | None, int | None]:
    """Return the rows of the critic's micro batch, where it is the policy's own model with a value for a head, and those
    that it gives values to at once, where somebody says these.

    It counts tokens where the actor does, twice as many unless somebody says how many, of its share of a mini batch
    (trainer/config, workers/fsdp_workers.py CriticWorker, 0.2.0 to 0.9.1).
    """
    model, critic = keys.get(f"{MODEL}.path"), keys.get("critic.model.path")
    if model is None or critic is None or str(model.value) != str(critic.value):
        return None, None
    dynamic = keys.flag("critic.use_dynamic_bsz") or keys.flag(f"{ACTOR}.use_dynamic_bsz")
    if dynamic is not None and dynamic.value:
        tokens, more = keys.count("critic.ppo_max_token_len_per_gpu"), keys.count(TOKENS[1])
        number = FORWARD_TOKENS if tokens is None else int(tokens.value)
        scored = number if more is None else int(more.value)
        of_update = min(_at_most(keys, number, longest), _rows_of_mini_batch(keys, ranks))
        return of_update, _at_most(keys, scored, longest)
    rows = rows_of(keys, "critic", UPDATE, longest, ranks)
    scored_rows = rows_of(keys, "critic", OF_VALUES, longest, ranks)
    return rows and rows[1], scored_rows and scored_rows[1]


def _rows_of_mini_batch(keys: FrameworkKeys, ranks: int) -> int:
    """Return the rows that a rank has at most for an update of the critic, with those that it shares with a ring."""
    prompts = ("critic.ppo_mini_batch_size", f"{ACTOR}.ppo_mini_batch_size")
    factors = (f"{ROLLOUT}.n", RING, RING_OF_CRITIC)
    if any(map(keys.is_unknown, (*prompts, *factors))):
        return MANY
    said = keys.count(prompts[0]) or keys.count(prompts[1])
    answers, *rings = (1 if each is None else int(each.value) for each in map(keys.count, factors))
    rows = (MINI_BATCH if said is None else int(said.value)) * answers * max(rings)
    return max(1, ceil_div(rows, ranks))


def _at_most(keys: FrameworkKeys, tokens: int, longest: int) -> int:
    """Return the most rows that share the room of a number of tokens, of as many as there may be."""
    return max(ceil_div(tokens, longest), rows_beyond(keys, tokens, longest, MANY, 1))


def _reward_rows(keys: FrameworkKeys, longest: int, ranks: int) -> int | None:
    """Return the rows that a reward model scores at once, of as many tokens as the actor's; None where there is none.

    It counts tokens where the critic does, as many unless somebody says how many (trainer/config, 0.2.0 to 0.6.1).
    """
    if not keys.is_on(f"{REWARD}.enable"):
        return None
    names = (f"{REWARD}.use_dynamic_bsz", "critic.use_dynamic_bsz", f"{ACTOR}.use_dynamic_bsz")
    switch = next((flag for name in names if (flag := keys.flag(name)) is not None), None)
    if switch is not None and switch.value:
        said = (keys.count(name) for name in TOKENS)
        number = next((each for each in said if each is not None), None)
        return _at_most(keys, FORWARD_TOKENS if number is None else int(number.value), longest)
    rows = rows_of(keys, REWARD, SCORED, longest, ranks)
    most = keys.count(f"{REWARD}.max_length")
    return None if rows is None else rows[1] * ceil_div(most.value if most else longest, longest)


def _read_rewards(keys: FrameworkKeys) -> None:
    """Name the models that score: a worker beside the actor, or from 0.7 on an engine."""
    if not keys.is_on(f"{REWARD}.enable"):
        return
    at = keys.given[f"{REWARD}.enable"]
    if SERVES_ITS_ENGINE.holds_in(keys.library.versions):
        keys.leave_out(ENGINE_OF_REWARDS, at)
        return
    path = keys.get(f"{REWARD}.model.path")
    name = "" if path is None else f" {path.value}"
    if path is not None:
        keys.put("reward_models", (str(path.value),), path)
    message = f"the reward model{name} is estimated at its most, and where its shapes are known"
    keys.leave_out(NotModelled(message, REWARD_MODEL, "more"), at)


def _others(keys: FrameworkKeys, objective: str, model: Setting | None) -> None:
    """Record the models beside the actor: a reference where a divergence from it counts, and those that score."""
    at = model or Setting(None, Place("argv", "", "verl.trainer.main_ppo"))
    names = (f"{ACTOR}.use_kl_loss", "algorithm.use_kl_in_reward")
    on = [keys.given[name] for name in names if keys.is_on(name)]
    if on:
        has_adapter = "adapter" in keys.settings
        keys.put("reference_model", "adapter_off" if has_adapter else "same", on[0])
    else:
        is_asked = REFERENCE_IF_ASKED.holds_in(keys.library.versions)
        kind, other = ("none", "same") if is_asked else ("same", "none")
        keys.assume("reference_model", kind, "no use_kl_loss and use_kl_in_reward")
        if not is_asked or not keys.library.is_known:
            # a copy of the source between two releases has the number of the one before
            origin = replace(keys.origins["reference_model"], may_be=(other,))
            keys.origins["reference_model"] = origin
    compared = keys.get("actor_rollout_ref.ref.model.path")
    if compared is not None and compared.value != keys.value(f"{MODEL}.path"):
        message = (
            f"the reference is estimated as one of the actor's shapes, not as {compared.value}"
        )
        keys.leave_out(NotModelled(message, "a reference of another model", "either"), compared)
    keys.leave_out_given(NOT_PRICED)
    _read_rewards(keys)
    for name in filter(keys.is_unknown, DECIDE):
        message = f"{name} is estimated as where nobody says it: another program fills it in"
        keys.leave_out(NotModelled(message, f"what {name} is", "either"), keys.given[name])
    parallel = keys.count(RING)
    if parallel is not None and parallel.value > 1:
        message = "every rank is estimated with its whole sequences"
        keys.leave_out(NotModelled(message, "sequence parallelism", "less"), parallel)
    device = keys.get("trainer.device")
    if device is not None and str(device.value) not in ("cuda", "auto"):
        message = f"kernels and engine are estimated as on a GPU of CUDA's, not on {device.value}"
        keys.leave_out(NotModelled(message, OTHER_ACCELERATOR, "either"), device)
    hybrid = keys.flag("actor_rollout_ref.hybrid_engine")
    if hybrid is not None and not hybrid.value:
        message = "the engine is estimated on the cards of the actor"
        keys.leave_out(NotModelled(message, "an engine on other cards", "either"), hybrid)
    if objective == "ppo":
        name_rest(keys, "critic.model", "critic.model.fsdp_config", "critic.optim")
        critic = keys.get("critic.model.path")
        name = "" if critic is None else f" {critic.value}"
        message = f"of the critic{name} these numbers have what it keeps, where it is of the actor's shapes; its update is judged beside them"
        keys.leave_out(NotModelled(message, CRITIC, "more"), critic or at)
