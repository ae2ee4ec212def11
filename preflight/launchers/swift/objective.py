"""What ms-swift trains for: `pt` and `sft` the next token or a task, `rlhf` what rlhf_type says, with what it compares with.

Source: ms-swift 4.6.0, arguments/rlhf_args.py and trainers/trainer_factory.py; llm/argument/rlhf_args.py of 3.x.
"""

from __future__ import annotations

import os

from preflight.files import read_text
from preflight.launch import Generation
from preflight.launchers.framework_keys import FrameworkKeys, NotModelled
from preflight.launchers.swift.table import default_of
from preflight.lazy_pattern import lazy_pattern
from preflight.setting import Setting
from preflight.unpriced_names import TEACHER

OBJECTIVES = {
    "dpo": "dpo", "orpo": "orpo", "simpo": "simpo", "kto": "kto", "cpo": "cpo", "rm": "reward", "ppo": "ppo",
    "grpo": "grpo", "gkd": "distillation",
}  # fmt: skip
"""`rlhf_type` -> what it trains for."""
TASKS = {"seq_cls": "sequence_classification", "embedding": "embedding"}
ONLINE = ("grpo", "ppo", "gkd")
LEFT_OUT_OF_GRPO = {
    "offload_model": ("a policy that is on the host during a rollout", "less"),
    "offload_optimizer": ("an optimizer that is on the host during a rollout", "less"),
    "move_model_batches": ("weights that are synchronized in pieces", "less"),
    "async_generate": ("rollouts beside the update", "either"),
    "dynamic_sample": ("rollouts that are sampled again", "more"),
    "multi_turn_scheduler": ("rollouts of several turns", "either"),
    "log_entropy": ("the entropy of completions", "more"),
    "padding_free": ("completions without padding", "either"),
    "use_liger_kernel": ("the log-probabilities of Liger's loss", "either"),
    "chord_sft_dataset": ("rows of CHORD", "more"),
}
"""Arguments of `grpo` under which it holds what no formula counts -> what that is, and whether it is more."""


_LOADS = lazy_pattern(
    r"from_pretrained\(|get_model_tokenizer\(|\bLLM\(|SentenceTransformer\(|CrossEncoder\(|pipeline\(|load_model\(|\.cuda\("
)
"""What a plugin loads a model with."""


def read_objective(keys: FrameworkKeys, name: str) -> str:
    """Record what is trained for, and return it."""
    if name == "rlhf":
        return _preference(keys)
    task = keys.get("task_type")
    if task is not None and task.value != "causal_lm":
        objective = TASKS.get(str(task.value))
        if objective is None:
            message = f"task_type {task.value} is estimated as a next token's loss"
            keys.leave_out(NotModelled(message, f"the task {task.value}", "either"), task)
            return str(task.value)
        keys.put("objective", objective, task)
        return objective
    labels = keys.count("num_labels")
    if labels is not None and task is None:
        keys.put("objective", "sequence_classification", labels)
        return "sequence_classification"
    objective = "pretrain" if name == "pt" else "sft"
    keys.assume("objective", objective, f"swift {name}")
    return objective


def _preference(keys: FrameworkKeys) -> str:
    setting = keys.get("rlhf_type")
    kind = "dpo" if setting is None else str(setting.value)
    if kind not in OBJECTIVES:
        wanted = ", ".join(OBJECTIVES)
        assert setting is not None
        keys.refuse(f"rlhf_type must be one of {wanted}, not {setting.value!r}", setting)
        return kind
    objective = OBJECTIVES[kind]
    losses = keys.get("loss_type")
    if kind == "dpo" and losses is not None and losses.value in ("ipo", ["ipo"]):
        objective = "ipo"
    if kind == "cpo" and losses is not None and losses.value in ("simpo", ["simpo"]):
        objective = "simpo"
    keys.decide("objective", objective, setting, reason="no rlhf_type")
    reference = keys.get("ref_model")
    model = keys.get("model")
    if reference is not None and reference.value:
        is_same = model is not None and model.value == reference.value
        keys.put("reference_model", "same" if is_same else str(reference.value), reference)
    packing = keys.flag("packing")
    if packing is not None and packing.value:
        message = "pairs that are packed are estimated as rows of their own"
        keys.leave_out(NotModelled(message, "packed pairs", "either"), packing)
    adapters = keys.get("ref_adapters")
    if adapters is not None and adapters.value:
        message = "the adapter of the reference model is not counted"
        keys.leave_out(NotModelled(message, "the reference's adapter", "more"), adapters)
    beta = keys.number("beta")
    if kind == "grpo" and beta is not None and beta.value == 0.0:
        keys.put("reference_model", "none", beta)
    elif kind == "grpo" and "reference_model" not in keys.settings:
        is_full = keys.value("train_type", keys.value("tuner_type")) == "full"
        keys.assume("reference_model", "same" if is_full else "adapter_off", "a beta of 0.04")
    if kind in ONLINE and setting is not None:
        _generation(keys, kind, setting)
        if kind == "grpo":
            _left_out_of_grpo(keys)
        else:
            message = f"{kind} of ms-swift is not estimated"
            keys.leave_out(NotModelled(message, f"{kind} of ms-swift", "either"), setting)
    rewards = keys.get("reward_model")
    if rewards is not None and rewards.value:
        names = rewards.value if isinstance(rewards.value, list) else [rewards.value]
        keys.put("reward_models", tuple(str(each) for each in names), rewards)
    teacher = keys.get("teacher_model")
    if teacher is not None:
        message = f"the teacher {teacher.value} is not counted"
        keys.leave_out(NotModelled(message, TEACHER, "more"), teacher)
    return objective


def _may_load(path: str) -> bool:
    """Tell whether a plugin's file is not here, or loads a model."""
    try:
        return _LOADS.search(read_text(path)) is not None
    except (OSError, ValueError):
        return True


def _left_out_of_grpo(keys: FrameworkKeys) -> None:
    """Say what of GRPO no formula counts."""
    plugins = keys.get("external_plugins")
    said = [] if plugins is None else plugins.value
    paths = said if isinstance(said, list) else str(said).split()
    if plugins is not None and any(
        _may_load(os.path.join(keys.library.folder or "", str(each))) for each in paths
    ):
        message = "a plugin that is not here, or loads a model itself, is not counted"
        keys.leave_out(NotModelled(message, "what a plugin loads", "more"), plugins)
    for name, (what, takes) in LEFT_OUT_OF_GRPO.items():
        setting = keys.get(name)
        if setting is not None and str(setting.value).lower() not in ("false", "none", ""):
            keys.leave_out(NotModelled(f"{name}: {what}: not counted", what, takes), setting)
    sharded, pieces = keys.get("deepspeed"), keys.get("move_model_batches")
    is_zero3 = sharded is not None and not str(sharded.value).startswith(
        ("zero0", "zero1", "zero2")
    )
    if sharded is not None and is_zero3 and pieces is None and keys.is_on("use_vllm"):
        # read, not measured: no refusal rests on it
        message = "ZeRO-3 is estimated to have the whole policy gathered on its way to the engine, as ms-swift's source has it"
        what = "how much of the policy is gathered for the engine"
        keys.leave_out(NotModelled(message, what, "less"), sharded)
    syncs = keys.get("sync_ref_model")
    if is_zero3 and syncs is not None and keys.is_on("sync_ref_model"):
        # TRL's callback in 3.12.6, its own in 4.6.0 (rollout_mixin.py _sync_ref_model_weights), by groups of parameters
        message = "policy and reference gathered whole to synchronise them are not counted"
        what = "both models gathered to synchronise them"
        keys.leave_out(NotModelled(message, what, "more"), syncs)
    quantile = keys.number("top_entropy_quantile")
    if quantile is not None and quantile.value < 1.0:
        message = "the entropy of completions is not counted"
        keys.leave_out(NotModelled(message, "the entropy of completions", "more"), quantile)
    steps, accumulation = (
        keys.count("steps_per_generation"),
        keys.count("gradient_accumulation_steps"),
    )
    waits = 1 if accumulation is None else accumulation.value
    if steps is not None and steps.value % waits:
        message = "gradients that wait through a rollout are not counted"
        keys.leave_out(NotModelled(message, "gradients that wait", "more"), steps)


def _generation(keys: FrameworkKeys, kind: str, at: Setting) -> None:
    """Record how completions are made; GRPO and GKD may have vLLM do it."""
    uses = keys.flag("use_vllm")
    mode, share = keys.get("vllm_mode"), keys.number("vllm_gpu_memory_utilization")
    tensor, longest = keys.count("vllm_tensor_parallel_size"), keys.count("vllm_max_model_len")
    completion, prompt = keys.count("max_completion_length"), keys.count("max_length")
    number, sleeps = keys.count("num_generations"), keys.get("sleep_level")
    has_vllm = uses is not None and bool(uses.value) and kind != "ppo"
    steps, gathers = keys.count("steps_per_generation"), keys.flag("ds3_gather_for_generation")
    batch = keys.count("generation_batch_size")
    default = default_of("rlhf", "vllm_mode", keys.library.version)
    generation = Generation(
        engine="vllm" if has_vllm else "transformers",
        mode=str(mode.value) if mode is not None else default or "colocate",
        memory_share=float(share.value) if share is not None else 0.9,
        tensor_parallel_degree=tensor.value if tensor is not None else 1,
        sleep=sleeps is not None and sleeps.value not in (0, "0"),
        max_model_len=longest.value if longest is not None else None,
        max_prompt_len=prompt.value if prompt is not None else None,
        max_completion_len=completion.value if completion is not None else 512,
        num_generations=number.value if number is not None else 8,
        steps_per_generation=steps.value if steps is not None else None,
        batch_size=batch.value if batch is not None else None,
        gathers_parameters=gathers is None or bool(gathers.value),
        scores_again=kind == "grpo",
    )
    said = (uses, mode, share, tensor, longest, completion, number, sleeps, steps, batch, gathers)
    keys.put("generation", generation, at, *(setting for setting in said if setting is not None))
    if prompt is not None:  # what reaches the policy is prompt and completion
        both = prompt.value + generation.max_completion_len
        keys.given["max_length"] = Setting(both, prompt.place)
