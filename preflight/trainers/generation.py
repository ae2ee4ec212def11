"""How TRL's online trainers generate, and what scores the completions: GRPO's and RLOO's arguments, and their call in a script."""

from __future__ import annotations

from typing import Any

from preflight.launch import Generation
from preflight.lazy_pattern import lazy_pattern
from preflight.setting import Setting
from preflight.trainers.fields import FieldReader
from preflight.trainers.kind import PROSE
from preflight.versions.trl import (
    CORRECTS_SAMPLING,
    FUSES_HEAD,
    IGNORES_PROMPT_LENGTH,
    LIGER_KERNEL_IS_LOSS,
)
from preflight.versions.trl_online import GENERATES_FOR_A_STEP, NEEDS_NO_REFERENCE, SERVES_ENGINE

GENERATION_ARGUMENTS = (
    "use_vllm", "vllm_mode", "vllm_gpu_memory_utilization", "vllm_tensor_parallel_size", "vllm_enable_sleep_mode", "vllm_device",
    "vllm_max_model_length", "max_prompt_length", "max_completion_length", "max_new_tokens", "num_generations", "steps_per_generation", "generation_batch_size",
    "num_iterations", "response_length", "local_rollout_forward_batch_size", "num_mini_batches", "ds3_gather_for_generation", "vllm_importance_sampling_correction",
)  # fmt: skip
"""Arguments of trl.GRPOConfig, RLOOConfig, PPOConfig and OnlineDPOConfig that decide the plan's `generation`."""
NOT_PRICED = {
    "use_transformers_paged": "continuous batching of transformers",
    "use_transformers_continuous_batching": "continuous batching of transformers",
    "cache_implementation": "a cache of another kind",
    "cast_lm_head_to_fp32": "a head in fp32",
    "entropy_coef": "a bonus for entropy",
    "use_adaptive_entropy": "a bonus for entropy",
}
"""Arguments under which a rollout takes what no formula counts -> what that is called."""
SAMPLES = frozenset(
    {"do_sample", "temperature", "top_p", "top_k", "min_p", "typical_p", "repetition_penalty", "length_penalty",
     "presence_penalty", "frequency_penalty", "no_repeat_ngram_size", "bad_words_ids", "stop", "stop_strings", "seed",
     "eos_token_id", "pad_token_id", "bos_token_id", "skip_special_tokens", "min_tokens", "min_new_tokens"}
)  # fmt: skip
"""What `generation_kwargs` may say of the next token alone; beams, lengths and caches are none of these."""
_TURNS = lazy_pattern(
    r"\b(rollout_func|environment_factory|tools)\s*=\s*(?!None\b|\[\s*\])[\w\[{(*]"
)
_LOADED = lazy_pattern(r"ForSequenceClassification\s*[.(]")
"""A use of such a class, whose import alone loads nothing."""


def read_generation(fields: FieldReader, objective: str) -> str:
    """Put generation, length, reward models and reference model of an online method; return in words what is not priced."""
    default = fields.given.versions.default
    stated: list[Setting] = []

    def value(name: str, otherwise: Any) -> Any:
        setting = fields.get(name)
        if setting is None or setting.value is None:
            return otherwise
        stated.append(setting)
        kind = type(otherwise)
        wanted = (int, float) if kind is float else kind
        if otherwise is not None and not isinstance(setting.value, wanted):
            return otherwise
        return setting.value

    uses_engine = value("use_vllm", False)
    versions = {"trl": fields.given.versions.of("trl")}
    mode = value("vllm_mode", default("trl", "vllm_mode"))
    completion = value("max_completion_length", default("trl", "max_completion_length"))
    prompt = value("max_prompt_length", default("trl", "max_prompt_length"))
    if IGNORES_PROMPT_LENGTH.holds_in(versions):
        prompt = None
    model_len = value("vllm_max_model_length", None) or value("vllm_max_model_len", None)
    accumulation = _accumulation(fields)
    steps = value("steps_per_generation", None)
    iterations = value("num_iterations", 1)
    if objective == "grpo" and not GENERATES_FOR_A_STEP.holds_in(versions):
        # each micro step generates for itself, and again when its completions were trained on `iterations` times
        steps, waits, is_older = 1, accumulation > 1, iterations > 1
    else:
        micro_steps = (steps or accumulation) * iterations
        waits, is_older = micro_steps % accumulation != 0, accumulation % micro_steps != 0
    is_vllm = bool(uses_engine)
    generation = Generation(
        engine="vllm" if is_vllm else "transformers",
        mode=mode if is_vllm else "colocate",
        memory_share=float(value("vllm_gpu_memory_utilization", 0.3)) if is_vllm else None,
        tensor_parallel_degree=value("vllm_tensor_parallel_size", 1) if is_vllm else 1,
        sleep=bool(value("vllm_enable_sleep_mode", False)) and is_vllm,
        # a server has a length of its own
        max_model_len=model_len if is_vllm and mode == "colocate" else None,
        max_prompt_len=prompt,
        max_completion_len=completion,
        num_generations=value("num_generations", 2 if objective == "rloo" else 8),
        steps_per_generation=steps,
        batch_size=value("generation_batch_size", None),
        gradients_wait=waits,
        gathers_parameters=bool(value("ds3_gather_for_generation", True))
        or not SERVES_ENGINE.holds_in(versions),
        scores_again=objective == "rloo" or (is_vllm and _corrects(fields)) or is_older,
    )
    fields.decide("generation", generation, stated, "no argument of generation", "trl")
    _put_length(fields, generation)
    _put_reference(fields, objective)
    unpriced = _put_rewards(fields)
    for name, words in NOT_PRICED.items():
        if value(name, None) not in (None, False):
            unpriced = words
    more = value("generation_kwargs", None)
    if more is not None and not (isinstance(more, dict) and {*more} <= SAMPLES):
        unpriced = "what generation_kwargs changes"
    card = value("vllm_device", None)
    if is_vllm and not SERVES_ENGINE.holds_in(versions) and card not in (None, "auto"):
        unpriced = "an engine on a card that vllm_device names"
    said = fields.get("max_completion_length")
    if said is not None and said.value is None:
        unpriced = "completions that nothing ends"
    turns = _TURNS.search(PROSE.sub("", fields.given.kind.text))
    if turns is not None:
        unpriced = f"rollouts of the script's own ({turns[1]})"
    return unpriced


NEW_TOKENS, SHARE_OF_PAIRS = 64, 0.55
"""Defaults of OnlineDPOConfig and of those that derive from it (trl/experimental/online_dpo/online_dpo_config.py, 1.16.0)."""


def read_generated_pairs(fields: FieldReader, unpriced: str) -> str:
    """Put how online DPO, Nash-MD and XPO generate in every micro step; return in words what is not priced.

    `max_length` cuts what is trained, and a prompt is generated from as it is: no length is put.
    """
    said = fields.positive("max_new_tokens", "generation")
    engine = fields.get("use_vllm")
    is_vllm = engine is not None and engine.value is True
    mode, share = fields.value("vllm_mode", "colocate"), fields.value("vllm_gpu_memory_utilization")
    generation = Generation(
        engine="vllm" if is_vllm else "transformers",
        mode=str(mode) if is_vllm else "colocate",
        memory_share=None if not is_vllm else float(SHARE_OF_PAIRS if share is None else share),
        tensor_parallel_degree=int(fields.value("vllm_tensor_parallel_size") or 1),
        sleep=is_vllm and fields.value("vllm_enable_sleep_mode") is True,
        max_completion_len=NEW_TOKENS if said is None else int(said.value),
        num_generations=2,
        steps_per_generation=1,
        gradients_wait=_accumulation(fields) > 1,
        gathers_parameters=fields.value("ds3_gather_for_generation") is not False,
    )
    stated = [each for each in (said, engine) if each is not None]
    fields.decide("generation", generation, stated, "no max_new_tokens", "trl")
    if is_vllm and not SERVES_ENGINE.holds_in({"trl": fields.given.versions.of("trl")}):
        return "an engine of online DPO before TRL 0.16"
    if fields.value("cache_implementation") is not None:
        return NOT_PRICED["cache_implementation"]
    if fields.value("generation_kwargs") is not None:
        return "what generation_kwargs changes"
    return unpriced or _put_rewards(fields, fields.get("reward_model_path"))


def ligers_loss(fields: FieldReader) -> Setting | None:
    """Return what makes GRPO's or DPO's loss Liger's, one switch and later another; RLOO never had it."""
    versions = {"trl": fields.given.versions.of("trl")}
    if FUSES_HEAD.holds_in(versions):
        return None
    switches = ["use_liger_loss"]
    if LIGER_KERNEL_IS_LOSS.holds_in(versions):
        switches.append("use_liger_kernel")
    found = (fields.get(name) for name in switches)
    return next((each for each in found if each is not None and each.value is True), None)


def _accumulation(fields: FieldReader) -> int:
    steps = fields.value("gradient_accumulation_steps", 1)
    return steps if isinstance(steps, int) and steps > 0 else 1


def _corrects(fields: FieldReader) -> bool:
    """Tell whether the policy scores what vLLM sampled, to weigh it (trl/trainer/grpo_config.py:904, 1.16.0)."""
    if not CORRECTS_SAMPLING.holds_in({"trl": fields.given.versions.of("trl")}):
        return False
    return bool(fields.value("vllm_importance_sampling_correction", True))


def _put_length(fields: FieldReader, generation: Generation) -> None:
    """Put the longest sequence: prompt and completion, or what the engine takes; nothing where prompts are not cut.

    The rows of a rollout are as wide as its longest prompt and its longest completion together, which need not be of
    one row (pad and torch.cat in _generate_and_score_completions, grpo_trainer.py and rloo_trainer.py, 0.26.0 to
    1.16.0): what the engine takes bounds each row, and the width is open up to both at their longest.
    """
    completion, engine = generation.max_completion_len, generation.max_model_len
    prompt = generation.max_prompt_len
    ends = (
        "vllm_max_model_length" if prompt is None else "max_prompt_length",
        "max_completion_length",
    )
    stated = [s for name in ends if (s := fields.get(name)) is not None and s.value is not None]
    if prompt is not None:
        length = prompt + completion
        fields.decide("seq_len", length, stated, "prompts and completions of TRL's defaults", "trl")
    elif engine is not None and stated:
        fields.put("seq_len", engine, *stated)
        widest = engine - 1 + min(completion, engine - 1)
        if widest > engine:
            reason = "each row ends there, and the longest prompt and the longest completion may be of two"
            fields.leave_open("seq_len", (widest,), reason)


def _put_reference(fields: FieldReader, objective: str) -> None:
    """Put `none` where nothing is compared: a beta of 0. Else the rule of objective and adapter holds."""
    beta = fields.get("beta")
    default = 0.05 if objective == "rloo" else fields.given.versions.default("trl", "beta")
    number = default if beta is None or beta.value is None else beta.value
    if objective == "grpo" and not NEEDS_NO_REFERENCE.holds_in(
        {"trl": fields.given.versions.of("trl")}
    ):
        number = default
    has_adapter = fields.value("use_peft") is True
    what = "none" if number in (0, 0.0) else "adapter_off" if has_adapter else "same"
    if beta is not None and beta.value is not None:
        fields.put("reference_model", what, beta)
    else:
        fields.assume("reference_model", what, "no beta", "trl")


def _several(said: Any) -> list[Any]:
    return list(said) if isinstance(said, (list, tuple)) else [said]


def _put_rewards(fields: FieldReader, path: Setting | None = None) -> str:
    """Put the reward model that is named, `path` by an argument of the trainer's own; return what is not priced of others."""
    named = fields.given.known.get("reward_model_name_or_path") or path
    if named is not None and named.value:
        model = fields.get("model_name_or_path")
        is_same = model is not None and str(model.value) == str(named.value)
        fields.put("reward_models", ("same",) if is_same else (str(named.value),), named)
        return ""
    functions = fields.get("reward_funcs")
    said = [] if functions is None else functions.value
    if fields.given.kind.is_own_script and any("." in str(each) for each in _several(said)):
        return "a reward function of another module"  # which may load a model
    text = PROSE.sub("", fields.given.kind.text)
    if fields.given.kind.is_own_script or not text:
        return ""
    if _LOADED.search(text):
        return "a reward model that the script makes"
    return ""
