"""TRL's PPO: its arguments, the models that its script loads, and what of the Trainer's arguments its own loop never reads."""

from __future__ import annotations

from preflight.launch import Generation
from preflight.lazy_pattern import lazy_pattern
from preflight.setting import Setting
from preflight.trainers.fields import FieldReader
from preflight.trainers.kind import PROSE
from preflight.trainers.lookup import Given
from preflight.versions.transformers import TRAINER_HOLDS_PRECISION

RESPONSE_LENGTH, ROLLOUT_ROWS = 53, 64
"""Defaults of PPOConfig (trl/trainer/ppo_config.py, utils.py OnPolicyConfig, 0.15.2; experimental/ppo, 1.12.0)."""
_CHECKPOINTS = lazy_pattern(r"gradient_checkpointing_enable\s*\(")
_POLICY_PATH = lazy_pattern(r"from_pretrained\(\s*[\w.]*\bsft_model_path\b")


def has_own_loop(given: Given) -> bool:
    """Tell whether TRL's trainer runs a loop of its own, with an Accelerator that it makes itself.

    Nothing in it turns checkpointing on, evaluates by a forward, or cuts a prompt (ppo_trainer.py train, 1.12.0).
    """
    return given.kind.trainer == "trl" and given.kind.trl_script == "ppo"


def ignores_precision(given: Given) -> bool:
    """Tell whether `bf16` and `fp16` reach no Accelerator: TrainingArguments handed them on by a variable until 5.0."""
    versions = {"transformers": given.versions.of("transformers")}
    return has_own_loop(given) and TRAINER_HOLDS_PRECISION.holds_in(versions)


def policy_argument(given: Given) -> str:
    """Return the argument that names the policy: TRL's scripts load it from `sft_model_path`."""
    names_it = has_own_loop(given) and _POLICY_PATH.search(given.kind.text)
    return "sft_model_path" if names_it else "model_name_or_path"


def read_ppo(fields: FieldReader) -> str:
    """Put generation and the models beside the policy; return in words what is not priced."""
    stated: list[Setting] = []

    def count(name: str, otherwise: int) -> int:
        setting = fields.positive(name, "generation")
        if setting is None:
            return otherwise
        stated.append(setting)
        return int(setting.value)

    gathers = fields.get("ds3_gather_for_generation")
    generation = Generation(
        max_completion_len=count("response_length", RESPONSE_LENGTH),
        rollout_rows=count("local_rollout_forward_batch_size", ROLLOUT_ROWS),
        num_mini_batches=count("num_mini_batches", 1),
        num_generations=1,
        gathers_parameters=gathers is None or gathers.value is not False,
    )
    fields.decide("generation", generation, stated, "no argument of generation", "trl")
    text = PROSE.sub("", fields.given.kind.text)
    if fields.value("use_peft") is True or fields.value("lora_r") is not None:
        return "a value model beside an adapter"
    if _CHECKPOINTS.search(text):
        return "checkpointing of the policy alone"
    fields.assume("reference_model", "same", "PPO compares with a copy of the policy", "trl")
    policy, reward = fields.get(policy_argument(fields.given)), fields.get("reward_model_path")
    if policy is None or reward is None:
        return "a reward model that the script makes"
    is_same = str(policy.value) == str(reward.value)
    fields.put("reward_models", ("same",) if is_same else (str(reward.value),), reward)
    return ""
