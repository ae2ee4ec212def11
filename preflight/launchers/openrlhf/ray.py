"""OpenRLHF's PPO on Ray in plan fields: the cards of its actor, with what is put beside it there.

Every model is a group of processes of its own: actor, reference, critic and reward model, and vLLM's engines. Groups share
cards where they are told to (`colocate_actor_ref`, `colocate_critic_reward`, `colocate_all_models`); each of them
otherwise has cards of its own, which take no more than the actor's where it runs the same model on as many ranks.

Source: cli/train_ppo_ray.py, trainer/ray/{launcher,ppo_actor,ppo_critic,vllm_engine}.py and
trainer/ppo_utils/experience_maker.py of OpenRLHF 0.3.8 to 0.11.2.
"""

from __future__ import annotations

from dataclasses import replace

from preflight.formulas.engines.groups import FEWER
from preflight.launch import Generation, Origin
from preflight.launch_facts import StepLoss
from preflight.launchers.framework_keys import NotModelled
from preflight.launchers.openrlhf.losses import dearest, policy_bytes
from preflight.launchers.openrlhf.plan import Defaults, read_reference
from preflight.models.registry import are_alike
from preflight.setting import Setting
from preflight.shell.starters.launcher_part import LauncherPart
from preflight.units import ceil_div
from preflight.unpriced_names import CRITIC, REWARD_MODEL

ESTIMATORS = {"gae": "ppo", "rloo": "rloo"}
"""`advantage_estimator` -> what it trains for; every other has no critic, as GRPO has none."""
LEAST_SHARE = 0.9
"""vLLM's own gpu_memory_utilization, where a release hands it none (0.3.8, 0.4.6)."""
SECOND = "a second model, if its name does not say what it is"
OTHERWISE = {
    "enable_ema": NotModelled("its averaged copy is not counted", "an averaged copy", "more"),
    "pretrain_data": NotModelled("a forward of other rows is not counted", "its ptx loss", "more"),
    "entropy_loss_coef": NotModelled("the entropy is not counted", "an entropy", "more"),
    "actor_freeze_visual_encoder": NotModelled(
        "the tower is estimated as trained", "a tower that is frozen", "less"
    ),
}
"""Argument that is set -> what is estimated in another way."""


def ray_ranks(part: LauncherPart, said: Defaults) -> LauncherPart:
    """Return the ranks that Ray places for the actor, whatever started the command."""
    nodes, per_node = (said.at(f"actor_num_{name}") for name in ("nodes", "gpus_per_node"))
    for setting in (nodes, per_node):
        if setting.value < 1:
            said.keys.refuse("Ray places an actor on one GPU at least", setting)
            return part
    place = per_node.place if per_node.place.kind != "default" else nodes.place
    origins = {}
    if place.kind == "default":
        origins["world_size"] = Origin(place.where, True, "no --actor_num_gpus_per_node")
    ranks = {"world_size": Setting(nodes.value * per_node.value, place), "num_nodes": nodes}
    return replace(part, ranks=ranks, mode="multi_gpu", mode_place=place, origins=origins)


def read_ray(said: Defaults, ranks: int) -> None:
    """Fill in every plan field that the groups of models decide, and name those that no formula holds."""
    keys = said.keys
    estimator = said.value("advantage_estimator") or "gae"
    objective = ESTIMATORS.get(str(estimator), "grpo")
    said.put("objective", objective, "advantage_estimator")
    longest = _length(said)
    _rows(said, longest, ranks)
    if is_packed(said):
        said.put("sequence_kind", "packed", "packing_samples")
        attention = keys.settings.get("attention")
        if attention is None or "flash_attention" not in str(attention.value):
            said.put("attention", "flash_attention_2", "packing_samples")
    keys.assume("keeps_outputs", False, "they live until its step returns")
    shares = said.value("colocate_all_models") is True
    _generation(said, longest, ranks, shares and said.value("async_train") is not True)
    _reference(said, ranks, shares or said.value("colocate_actor_ref") is True)
    _others(said, objective, ranks, shares)
    for name, left_out in OTHERWISE.items():
        if said.value(name) not in (None, False, 0, 0.0, ""):
            keys.leave_out(left_out, said.at(name))


def _length(said: Defaults) -> int | None:
    """Put the longest sequence: a prompt and an answer, or from 0.9.8 on both together."""
    prompt, answer, whole = (
        said.value(name) for name in ("prompt_max_len", "generate_max_len", "max_len")
    )
    if isinstance(prompt, int) and isinstance(answer, int):
        name = "generate_max_len"
        engines = said.keys.count("max_len")  # what its engines take, where somebody says it
        longest = prompt + answer if engines is None else min(engines.value, prompt + answer)
    elif isinstance(whole, int):
        name, longest = "max_len", whole
    else:
        return None
    said.put("seq_len", longest, name)
    return longest


def is_packed(said: Defaults) -> bool:
    """Tell whether rows go through the model without padding; a dynamic batch and a ring turn that on."""
    ring = said.value("ring_attn_size")
    is_divided = isinstance(ring, int) and ring > 1
    return is_divided or any(
        said.value(name) is True for name in ("packing_samples", "use_dynamic_batch")
    )


def _rows(said: Defaults, longest: int | None, ranks: int) -> None:
    """Open the rows of a micro batch where a number of tokens fills it (utils/seqlen_balancing.py, 0.8 to 0.11)."""
    keys = said.keys
    tokens = said.value("train_max_tokens_per_gpu")
    if said.value("use_dynamic_batch") is not True or longest is None or not tokens:
        return
    least, most = max(1, tokens // longest), max(1, ceil_div(tokens, longest))
    said.put("micro_batch_size", most, "train_max_tokens_per_gpu")
    if least != most:
        at, reason = said.at("train_max_tokens_per_gpu"), "tokens fill it, of rows of any length"
        keys.origins["micro_batch_size"] = Origin(at.place.where, True, reason, (least,))
    batch = said.value("train_batch_size")
    said.put("gradient_accumulation_steps", max(2, batch // (ranks * most)), "train_batch_size")


def _generation(said: Defaults, longest: int | None, ranks: int, is_beside: bool) -> None:
    """Record the engines: on the actor's cards, or on their own."""
    keys = said.keys
    prompt, answer = said.value("prompt_max_len"), said.value("generate_max_len")
    if answer is None:
        answer = said.value("max_new_tokens") or longest or 1024
    number = said.value("n_samples_per_prompt") or 1
    scored = said.value("micro_rollout_batch_size")
    if said.value("use_dynamic_batch") is True and longest:
        tokens = said.value("rollout_max_tokens_per_gpu") or said.value("train_max_tokens_per_gpu")
        scored = max(1, ceil_div(tokens, longest))
    rows = keys.settings.get("micro_batch_size")
    of_rank = ceil_div((said.value("rollout_batch_size") or 1) * number, ranks)
    generation = Generation(
        engine="vllm",
        mode="colocate" if is_beside else "server",
        memory_share=said.value("vllm_gpu_memory_utilization") or LEAST_SHARE,
        tensor_parallel_degree=(said.value("vllm_tensor_parallel_size") or 1),
        sleep=is_beside and said.value("vllm_enable_sleep") is True,
        max_model_len=longest,
        max_prompt_len=prompt,
        max_completion_len=answer,
        num_generations=number,
        steps_per_generation=None if rows is None else max(1, of_rank // rows.value),
        rollout_rows=scored,
        scores_again=True,
        offloads_optimizer=said.value("deepspeed_enable_sleep") is True,
    )
    said.put("generation", generation, "vllm_num_engines")
    if not said.value("vllm_num_engines"):
        message = "without engines the actor generates by itself, which is not estimated"
        name = "completions that the actor generates itself"
        keys.leave_out(NotModelled(message, name, "either"), said.at("vllm_num_engines"))
    if "adapter" in keys.settings:
        message = "how an adapter is handed to an engine is not estimated"
        name = "an adapter on its way to an engine"
        keys.leave_out(NotModelled(message, name, "either"), said.at("lora_rank"))


def _reference(said: Defaults, ranks: int, is_beside: bool) -> None:
    """Record the model whose log-probabilities bound the actor's, which is its own once more; none without a weight."""
    keys = said.keys
    weight = said.value("init_kl_coef")
    if isinstance(weight, (int, float)) and weight <= 0:
        said.put("reference_model", "none", "init_kl_coef")
    elif is_beside:
        read_reference(said)
    else:
        keys.assume("reference_model", "none", "on cards of its own")
        _bound(said, "ref", FEWER["ref"], ranks)


def _others(said: Defaults, objective: str, ranks: int, shares: bool) -> None:
    """Record critic and reward model where they have the actor's shapes, and name them where they have not."""
    keys = said.keys
    is_told = any(said.value(name) for name in ("remote_rm_url", "agent_func_path"))
    reward = str(said.value("reward_pretrain") or "")
    model = keys.settings.get("model")
    actor = "" if model is None else str(model.value)
    if not is_told:
        joins = objective == "ppo" and said.value("colocate_critic_reward") is True
        joins = joins and said.value("colocate_actor_ref") is not True
        if not _is_alike(said, actor, reward, "reward_pretrain") or (joins and not shares):
            message = f"the reward model {reward}".strip() + " is not in these numbers"
            left_out = NotModelled(message, REWARD_MODEL, "more")
            keys.leave_out(left_out, said.at("reward_pretrain"))
        elif shares:
            said.put("reward_models", ("same",), "reward_pretrain")
        else:
            _bound(said, "reward", FEWER["reward"], ranks)
    if objective != "ppo":
        return
    critic = str(said.value("critic_pretrain") or (actor if is_told else reward.split(",")[0]))
    is_told_of = not is_told and critic == reward
    is_alike = (
        are_alike(actor, critic)
        if is_told_of
        else _is_alike(said, actor, critic, "critic_pretrain")
    )
    if is_alike and not shares:
        _bound(said, "critic", CRITIC, ranks)
        return
    message = f"the critic {critic} is not in these numbers"
    if is_alike:
        message += "; one of the actor's shapes is judged beside it"
        of_update = said.value("micro_train_batch_size")
        generation = keys.settings["generation"]
        critics = replace(generation.value, critic_rows=of_update)
        keys.settings["generation"] = Setting(critics, generation.place)
    keys.leave_out(NotModelled(message, CRITIC, "more"), said.at("critic_pretrain"))


def _is_alike(said: Defaults, actor: str, other: str, name: str) -> bool:
    """Tell whether another model has the actor's shapes, and say so where only its name tells."""
    if not actor or not other or "," in other or not are_alike(actor, other):
        return False
    if other != actor:
        message = f"{other} is taken for a model of the shapes of {actor}, by its name alone"
        said.keys.leave_out(NotModelled(message, SECOND, "less"), said.at(name))
    return True


def _bound(said: Defaults, group: str, name: str, ranks: int) -> None:
    """Name a group whose cards may hold more than the actor's: it runs the same model on fewer of them.

    What does not train is whole below stage 3, as the actor's parameters are; at stage 3 it has 2 bytes of a parameter,
    where an actor that trains all of them on its card has 16.
    """
    nodes, per_node = (said.value(f"{group}_num_{one}") for one in ("nodes", "gpus_per_node"))
    others = nodes * per_node
    if group in ("ref", "reward"):
        moves = any(said.value(one) is True for one in ("adam_offload", "deepspeed_enable_sleep"))
        trains_all = not moves and "adapter" not in said.keys.settings
        others *= 8 if trains_all else 1
        others = ranks if said.value("zero_stage") != 3 else others
    if others < ranks and said.value("zero_stage") != 0:
        message = f"the shards of {nodes * per_node} ranks are larger than the actor's"
        at = said.at(f"{group}_num_gpus_per_node")
        said.keys.leave_out(NotModelled(message, name, "more"), at)


def step_of_actor(said: Defaults, oldest: str) -> StepLoss:
    """Return what an update makes of logits, in the dearest of the releases and kernels that it may have."""
    keys = said.keys
    attention, origin = keys.settings["attention"], keys.origins.get("attention")
    kinds = {str(attention.value), *(() if origin is None else origin.may_be)}
    is_flash = all(kind.startswith("flash") for kind in kinds)
    ways = [policy_bytes(version, is_flash) for version in (keys.library.version, oldest)]
    taken = dearest(ways)
    if ways[0] != ways[1] or not is_flash:
        message = "log-probabilities are estimated in the dearest way that they may be taken"
        at = said.at("micro_train_batch_size")
        keys.leave_out(NotModelled(message, "cheaper ways through a step", "less"), at)
    return StepLoss(keys.library.default_place, taken, taken, has_copy=True, partitions_copy=True)
