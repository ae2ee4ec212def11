"""The PPO trainer of verl in plan fields: actor, rollout, reference and critic on one pool of GPUs; not priced.

Source: trainer/config/ppo_trainer.yaml, trainer/main_ppo.py and workers/fsdp_workers.py of verl 0.2 to 0.9.1.
"""

from __future__ import annotations

from preflight.launch import Generation
from preflight.launchers.framework_keys import FrameworkKeys, NotModelled
from preflight.launchers.verl.workers import (
    read_adapter,
    read_checkpointing,
    read_dtype,
    read_sharding,
)
from preflight.setting import Place, Setting

MODEL, ACTOR = "actor_rollout_ref.model", "actor_rollout_ref.actor"
ROLLOUT = "actor_rollout_ref.rollout"
ACTOR_STRATEGIES = (f"{ACTOR}.strategy", f"{ACTOR}.fsdp_config.strategy", "model_engine")
"""Keys that say whose workers the actor has; `model_engine=dp` is FSDP."""
ESTIMATORS = {"gae": "ppo", "rloo": "rloo"}
"""`algorithm.adv_estimator` -> what it trains for; every other compares completions of a group, as GRPO does."""


def read_ppo(keys: FrameworkKeys, ranks: int) -> None:
    """Fill in every plan field that the configuration decides, and say that no formula holds the workers together."""
    estimator = keys.get("algorithm.adv_estimator")
    objective = "ppo" if estimator is None else ESTIMATORS.get(str(estimator.value), "grpo")
    if estimator is not None:
        keys.put("objective", objective, estimator)
    else:
        keys.assume("objective", objective, "no algorithm.adv_estimator: gae")
    model = keys.get(f"{MODEL}.path")
    if model is not None:
        keys.put("model", str(model.value), model)
    at = model or estimator or Setting(None, Place("argv", "", "verl.trainer.main_ppo"))
    message = "actor, rollout, reference and critic share the GPUs in turn, and what each moves to the host is not read"
    keys.leave_out(NotModelled(message, f"{objective} of verl", "either"), at)
    read_dtype(keys, f"{ACTOR}.fsdp_config.model_dtype")
    read_sharding(
        keys, keys.get(*ACTOR_STRATEGIES), "fsdp", f"{ACTOR}.fsdp_config.fsdp_size", ranks
    )
    read_adapter(keys, MODEL)
    read_checkpointing(keys, f"{MODEL}.enable_gradient_checkpointing", True)
    _batch(keys)
    keys.assume("attention", "flash_attention_2", "attn_implementation of its own")
    keys.assume("optimizer", "adamw_torch", "torch.optim.AdamW")
    _others(keys, objective)


def _batch(keys: FrameworkKeys) -> None:
    rows = keys.count(f"{ACTOR}.ppo_micro_batch_size_per_gpu")
    if rows is not None:
        keys.put("micro_batch_size", rows.value, rows)
    prompt, answer = keys.count("data.max_prompt_length"), keys.count("data.max_response_length")
    longest = (512 if prompt is None else prompt.value) + (512 if answer is None else answer.value)
    said = [setting for setting in (answer, prompt) if setting is not None]
    if said:
        keys.put("seq_len", longest, *said)
    else:
        keys.assume("seq_len", longest, "no data.max_prompt_length and data.max_response_length")
    if keys.is_on(f"{ACTOR}.use_dynamic_bsz"):
        # as many rows as a number of tokens holds, without padding
        at = keys.given[f"{ACTOR}.use_dynamic_bsz"]
        tokens = keys.count(f"{ACTOR}.ppo_max_token_len_per_gpu")
        most = 16384 if tokens is None else tokens.value
        keys.put("micro_batch_size", max(1, most // longest), at, *([tokens] if tokens else []))
    removes = keys.flag(f"{MODEL}.use_remove_padding")
    if removes is not None:
        keys.put("sequence_kind", "packed" if removes.value else "padded", removes)
    share = keys.number(f"{ROLLOUT}.gpu_memory_utilization")
    tensor, number = (
        keys.count(f"{ROLLOUT}.{name}") for name in ("tensor_model_parallel_size", "n")
    )
    generation = Generation(
        engine="vllm",
        memory_share=0.5 if share is None else share.value,
        tensor_parallel_degree=2 if tensor is None else tensor.value,
        sleep=keys.value(f"{ROLLOUT}.free_cache_engine", True) is not False,
        max_prompt_len=None if prompt is None else prompt.value,
        max_completion_len=512 if answer is None else answer.value,
        num_generations=1 if number is None else number.value,
    )
    name = keys.get(f"{ROLLOUT}.name")
    if name is not None and name.value not in ("vllm", "hf"):
        message = f"the share of {name.value} is estimated as vLLM's"
        keys.leave_out(NotModelled(message, str(name.value), "either"), name)
    if name is not None:
        keys.put("generation", generation, name, *said)
    else:
        keys.assume(
            "generation", generation, "vllm, unless actor_rollout_ref.rollout.name says otherwise"
        )


def _others(keys: FrameworkKeys, objective: str) -> None:
    """Record the models beside the actor: a reference where a divergence from it counts, and those that score."""
    names = (f"{ACTOR}.use_kl_loss", "algorithm.use_kl_in_reward")
    on = [keys.given[name] for name in names if keys.is_on(name)]
    if on:
        has_adapter = "adapter" in keys.settings
        keys.put("reference_model", "adapter_off" if has_adapter else "same", on[0])
    reward = keys.get("reward_model.model.path")
    if keys.is_on("reward_model.enable") and reward is not None:
        keys.put("reward_models", (str(reward.value),), reward)
    critic = keys.get("critic.model.path")
    if objective == "ppo" and critic is not None:
        message = f"the critic {critic.value} is not counted"
        keys.leave_out(NotModelled(message, "a critic", "more"), critic)
