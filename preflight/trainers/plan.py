"""Plan fields that the Trainer's arguments decide: batch, sequence, checkpointing, attention, optimizer, precision."""

from __future__ import annotations

from typing import Any

from preflight.errors import Problem
from preflight.formulas.optimizers import LOW_RANK
from preflight.reading import Problems, Reading
from preflight.scripts.arguments.trainer_spellings import SIZES, attention_of
from preflight.setting import Setting
from preflight.trainers.fields import FieldReader, PlanFields, joined
from preflight.trainers.lookup import Given
from preflight.trainers.ppo import has_own_loop, ignores_precision, policy_argument
from preflight.trainers.sequence import read_sequence
from preflight.unpriced_names import LABEL_SMOOTHING


def read_plan_fields(given: Given) -> Reading[PlanFields]:
    """Return every plan field that does not depend on TRL's model arguments."""
    problems = Problems()
    parts = [problems.take(read(given)) for read in _SUBJECTS]
    return Reading(joined(*parts), tuple(problems))


def _model(given: Given) -> Reading[PlanFields]:
    fields = FieldReader(given)
    sizes = given.known.get(SIZES)
    if sizes is not None:
        fields.put("model_config", sizes.value, sizes)
        return fields.reading()
    setting = fields.get(policy_argument(given), "model")
    if setting is not None and setting.value is not None:
        fields.put("model", str(setting.value), setting)
    return fields.reading()


def _counts(given: Given) -> Reading[PlanFields]:
    fields = FieldReader(given)
    for name, plan_field, default in (
        ("per_device_train_batch_size", "micro_batch_size", 8),
        ("gradient_accumulation_steps", "gradient_accumulation_steps", 1),
    ):
        setting = fields.positive(name, plan_field)
        if setting is not None:
            fields.put(plan_field, setting.value, setting)
        elif given.has_trainer:
            fields.assume(plan_field, default, f"no --{name}", "transformers")
    evaluates = not has_own_loop(given) and (
        fields.value("eval_strategy", "no") not in ("no", False)
        or bool(fields.value("do_eval"))
        or bool(fields.value("eval_on_start"))
        or "calls_evaluation" in given.known
    )
    setting = fields.positive("per_device_eval_batch_size", "eval_micro_batch_size")
    if evaluates and setting is not None:
        fields.put("eval_micro_batch_size", setting.value, setting)
    elif evaluates and given.has_trainer:
        fields.assume("eval_micro_batch_size", 8, "no --per_device_eval_batch_size", "transformers")
    finder = fields.get("auto_find_batch_size")
    if finder is not None and finder.value is True:
        fields.problems.append(
            Problem.left_out(
                "auto_find_batch_size changes the global batch when a rank runs out of memory",
                finder.place.where,
                "the smaller micro batch that auto_find_batch_size finds",
                "less",
                "give a micro batch that fits; the estimate is for the one that is tried first",
                "PF431",
            )
        )
    return fields.reading()


def _precision(given: Given) -> Reading[PlanFields]:
    fields = FieldReader(given)
    if ignores_precision(given):
        return fields.reading()
    bf16, fp16 = fields.get("bf16", "mixed_precision"), fields.get("fp16", "mixed_precision")
    is_bf16 = bf16 is not None and bf16.value is True
    is_fp16 = fp16 is not None and fp16.value is True
    fields.inferred.pop("mixed_precision", None)
    if is_bf16 and is_fp16 and bf16 is not None and fp16 is not None:
        fields.put("mixed_precision", "bf16", bf16, fp16)
        fields.leave_open("mixed_precision", ("fp16",), "bf16 and fp16 are both on")
        fields.problems.append(
            Problem(
                "bf16 and fp16 are both on; the trainer takes one of them",
                f"{bf16.place.where}, {fp16.place.where}",
                "remove fp16 on a GPU that computes in bf16 (Ampere and later)",
                "PF407",
            )
        )
    elif is_bf16 and bf16 is not None:
        fields.put("mixed_precision", "bf16", bf16)
    elif is_fp16 and fp16 is not None:
        fields.put("mixed_precision", "fp16", fp16)
    elif given.has_trl_arguments and (bf16 is None or bf16.value is None):
        if given.versions.default("trl", "bf16") is None:
            fields.assume("mixed_precision", "bf16", "neither bf16 nor fp16 given")
    elif not given.has_trainer:
        setting = fields.get("mixed_precision", "mixed_precision")
        if setting is not None and setting.value in ("no", "bf16", "fp16", "fp8"):
            fields.put("mixed_precision", setting.value, setting)
    return fields.reading()


def _optimizer(given: Given) -> Reading[PlanFields]:
    fields = FieldReader(given)
    setting = fields.get("optim", "optimizer")
    if setting is not None and setting.value is not None and given.has_trainer:
        fields.put("optimizer", str(setting.value), setting)
        if str(setting.value).endswith(("_layerwise", "lomo")):
            fields.put("optimizer_in_backward", True, setting)
        if str(setting.value).startswith(LOW_RANK):
            _low_rank(fields, str(setting.value))
    elif given.has_trainer:
        name = given.versions.default_optimizer()
        fields.assume("optimizer", name, "no --optim", "transformers")
    for name in ("keeps_outputs", "zero_grad_set_to_none"):
        held = fields.get(name, name)
        if held is not None and held.value is not None:
            fields.put(name, held.value, held)
    norm = fields.get("max_grad_norm", "max_grad_norm")
    if norm is not None and norm.value is not None:
        fields.put("max_grad_norm", float(norm.value), norm)
    elif given.has_trainer:
        fields.assume("max_grad_norm", 1.0, "no --max_grad_norm", "transformers")
    return fields.reading()


def _low_rank(fields: FieldReader, optimizer: str) -> None:
    """Record what an optimizer of a low rank projects, where `optim_args` and `optim_target_modules` say it."""
    options, targets = fields.get("optim_args"), fields.get("optim_target_modules")
    from preflight.formulas.low_rank_options import low_rank_of, targets_of  # few launches have one

    said = None if targets is None else targets_of(targets.value)
    found = low_rank_of(optimizer, None if options is None else options.value, said)
    if targets is not None and found is not None:
        fields.put("low_rank", found, *filter(None, (targets, options)))


def _checkpointing(given: Given) -> Reading[PlanFields]:
    fields = FieldReader(given)
    if has_own_loop(given):
        fields.assume("activation_checkpointing", "none", "PPO's own loop turns none on", "trl")
        return fields.reading()
    new, old = (
        given.known.get("activation_checkpointing"),
        given.known.get("gradient_checkpointing"),
    )
    if new is not None and new.value is None:
        new = None
    if old is not None and old.value is None:
        old = None
    if new is not None and old is not None and new.value != old.value:
        fields.problems.append(
            Problem(
                f"{old.place.key} and {new.place.key} are two names of one argument and are given differently",
                f"{old.place.where}, {new.place.where}",
                f"remove {old.place.key}: the other one counts",
                severity="warning",
            )
        )
    stated = [setting for setting in (new, old) if setting is not None]
    if not stated:
        other = fields.get("gradient_checkpointing", "activation_checkpointing")
        stated = [] if other is None else [other]
    kwargs = fields.get("activation_checkpointing_kwargs") or fields.get(
        "gradient_checkpointing_kwargs"
    )
    options: dict[str, Any] = (
        kwargs.value if kwargs is not None and isinstance(kwargs.value, dict) else {}
    )
    is_default_on = given.has_trl_arguments and given.versions.default(
        "trl", "gradient_checkpointing"
    )
    is_on = bool(stated[0].value) if stated else bool(is_default_on)
    mode = "none"
    if is_on:
        mode = fields.problems.take(_checkpointing_mode(given, options, kwargs))
    if kwargs is not None and is_on and mode != "full":
        fields.put("activation_checkpointing", mode, kwargs, *stated)
    elif stated:
        fields.put("activation_checkpointing", mode, *stated)
    elif given.has_trainer:
        fields.assume("activation_checkpointing", mode, "no --gradient_checkpointing")
    # With kwargs that do not name it, torch falls back to the reentrant kind.
    if kwargs is not None and mode == "full":
        reentrant = bool(options.get("use_reentrant", given.kind.trainer != "trl"))
        fields.put("checkpointing_reentrant", reentrant, kwargs)
    said = fields.get("checkpointing_reentrant")
    if said is not None and mode == "full" and not given.has_trainer:
        fields.put("checkpointing_reentrant", bool(said.value), said)
    offload = fields.get("activation_offloading")
    if offload is not None and offload.value is True:
        fields.put("offload_activations", "cpu", offload)
    elif is_on and kwargs is not None and options.get("offload") is True:
        fields.put("offload_activations", "cpu", kwargs)
    return fields.reading()


def _checkpointing_mode(
    given: Given, options: dict[str, Any], kwargs: Setting | None
) -> Reading[str]:
    if options.get("selective"):
        return Reading("selective_op" if given.kind.trainer == "trl" else "full")
    every = options.get("every_n_layers", 1)
    if every in (1, True) or kwargs is None:
        return Reading("full")
    if every == 2:
        return Reading("selective_every_2")
    rare = Problem(
        f"every_n_layers {every!r} is estimated as no checkpointing: most layers keep their activations",
        kwargs.place.where,
        "every_n_layers 1 or 2 is estimated as it is",
        severity="warning",
    )
    return Reading("none", (rare,))


def _attention(given: Given) -> Reading[PlanFields]:
    fields = FieldReader(given)
    setting = fields.get("attn_implementation", "attention")
    kwargs = fields.get("model_init_kwargs")
    if kwargs is not None and isinstance(kwargs.value, dict):
        named = kwargs.value.get("attn_implementation")
        setting = Setting(named, kwargs.place) if named else setting
    flash = fields.get("use_flash_attn")
    if setting is not None and setting.value is not None:
        word = attention_of(setting.value)
        if word is None:
            message = f"attention implementation {setting.value!r} is estimated as flash attention"
            fields.leave_out(message, f"the attention {setting.value}", "more", setting)
        fields.put("attention", word or "flash_attention_2", setting)
    elif flash is not None and flash.value is True:
        fields.get("use_flash_attn", "attention")
        fields.put("attention", "flash_attention_2", flash)
    elif given.kind.trainer is not None:
        fields.assume("attention", "sdpa", "no --attn_implementation", "transformers")
    return fields.reading()


def _compile(given: Given) -> Reading[PlanFields]:
    fields = FieldReader(given)
    for name in ("torch_compile", "torch_compile_backend", "torch_compile_mode"):
        setting = fields.get(name, "torch_compile")
        if setting is not None and setting.value not in (None, False):
            fields.put("torch_compile", True, setting)
            return fields.reading()
    return fields.reading()


def _smoothing(given: Given) -> Reading[PlanFields]:
    """Name what label smoothing adds: the Trainer takes the loss itself, of a copy of the logits and their
    log-probabilities (transformers/trainer_pt_utils.py LabelSmoother, 5.24)."""
    fields = FieldReader(given)
    factor = fields.get("label_smoothing_factor") if given.has_trainer else None
    if factor is not None and factor.value not in (None, 0, 0.0):
        fields.problems.append(
            Problem(
                "the estimate does not count the loss under label smoothing",
                factor.place.where,
                severity="warning",
                unpriced=LABEL_SMOOTHING,
                takes="either",
            )
        )
    return fields.reading()


def _accumulation(given: Given) -> Reading[PlanFields]:
    fields = FieldReader(given)
    setting = fields.get("accelerator_config")
    if setting is None or not isinstance(setting.value, dict):
        return fields.reading()
    nested = setting.value.get("gradient_accumulation_kwargs")
    if isinstance(nested, dict) and "sync_each_batch" in nested:
        fields.put("sync_each_batch", bool(nested["sync_each_batch"]), setting)
    return fields.reading()


OF_LOOP = {
    "loop_optimizer": "optimizer",
    "loop_optimizer_kernel": "optimizer_kernel",
    "loop_eval_rows": "eval_micro_batch_size",
}
"""What a loop of the script's own says by what it calls -> the plan field."""


def _of_loop(given: Given) -> Reading[PlanFields]:
    fields = FieldReader(given)
    for argument, plan_field in OF_LOOP.items():
        if not given.has_trainer and argument in given.known:
            fields.put(plan_field, given.known[argument].value, given.known[argument])
    return fields.reading()


_SUBJECTS = (
    _model,
    _counts,
    read_sequence,
    _precision,
    _optimizer,
    _checkpointing,
    _attention,
    _compile,
    _accumulation,
    _smoothing,
    _of_loop,
)
"""In the order in which their problems are told."""
