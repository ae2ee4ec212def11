"""Where a DeepSpeed config and the trainer's arguments must say the same: transformers fills `auto` and refuses the rest.

Source: HfTrainerDeepSpeedConfig.trainer_config_process of transformers 5.24.0
(transformers/integrations/deepspeed.py). The comparison is Python's `!=` on values as loaded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from preflight.bool_words import as_word
from preflight.engines.deepspeed_config import DeepSpeedConfig
from preflight.errors import Problem
from preflight.reading import Problems, Reading
from preflight.setting import Place, Setting
from preflight.trainers.arguments import TrainerArguments

BATCH_KEYS = ("train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps")


def batch_problems(config: DeepSpeedConfig, world_size: int) -> Iterator[Problem]:
    """Yield what DeepSpeed's own arithmetic refuses (DeepSpeedConfig._set_batch_related_parameters, 0.19.8).

    Two of the three numbers decide the third by whole division; the product must then be right.
    """
    given = {
        key: config.get(key)
        for key in BATCH_KEYS
        if isinstance(config.get(key), int) and config.place(key).kind != "default"
    }
    whole = given.pop("train_batch_size", None)
    if whole is None or config.has("sequence_parallel_size"):
        return
    parts = world_size
    for value in given.values():
        parts *= value
    fits = whole == parts if len(given) == 2 else parts > 0 and whole % parts == 0
    if fits:
        return
    said = " * ".join((*(f"{key} {value}" for key, value in given.items()), f"{world_size} ranks"))
    relation = "is not" if len(given) == 2 else "is not a multiple of"
    yield Problem(
        f"train_batch_size {whole} {relation} {said} = {parts}",
        config.place("train_batch_size").where,
        "remove train_batch_size: DeepSpeed works it out"
        if given
        else f'"train_batch_size": {max(1, whole // world_size) * world_size}',
        "PF310",
    )


def filled_from_trainer(
    config: DeepSpeedConfig, trainer: TrainerArguments, num_ranks: int | None
) -> Reading[DeepSpeedConfig]:
    """Return the config with every `auto` filled that follows a trainer argument; a value that contradicts one is a problem.

    A rule whose argument is unknown, as the number of ranks may be, is left out. Where a class of the script's own may read the arguments, a default
    contradicts nothing, and what is given is a warning.
    """
    problems = Problems()
    arguments = trainer.arguments
    auto_batch = "auto_find_batch_size" in arguments and bool(
        arguments["auto_find_batch_size"].value
    )
    for key, names, wanted in _rules(arguments, num_ranks):
        if not config.has(key):
            continue
        value = config.get(key)
        if value == "auto":
            config = config.with_value(key, wanted.value, wanted.place)
            continue
        is_batch = key in ("train_micro_batch_size_per_gpu", "train_batch_size")
        if value is None or value == wanted.value or (is_batch and auto_batch):
            continue
        if wanted.place.kind == "default" and not trainer.has_sure_defaults:
            continue
        place = config.place(key)
        problems.append(
            Problem(
                _message(key, names, value, wanted, place),
                place.where,
                _fix(key, names, value, place),
                "PF303",
                "error" if trainer.is_sure else "warning",
            )
        )
    return Reading(config, tuple(problems))


def _rules(
    arguments: Mapping[str, Setting], num_ranks: int | None
) -> list[tuple[str, str, Setting]]:
    rules: list[tuple[str, str, Setting]] = []

    def rule(key: str, name: str) -> None:
        if name in arguments:
            rules.append((key, name, arguments[name]))

    rule("train_micro_batch_size_per_gpu", "per_device_train_batch_size")
    rule("gradient_accumulation_steps", "gradient_accumulation_steps")
    micro = arguments.get("per_device_train_batch_size")
    steps = arguments.get("gradient_accumulation_steps")
    if num_ranks is not None and micro is not None and steps is not None:
        batch = num_ranks * micro.value * steps.value
        names = f"{num_ranks} ranks * per_device_train_batch_size * gradient_accumulation_steps"
        rules.append(("train_batch_size", names, Setting(batch, micro.place)))
    rule("gradient_clipping", "max_grad_norm")
    rule("optimizer.params.lr", "learning_rate")
    betas = arguments.get("adam_beta1"), arguments.get("adam_beta2")
    if betas[0] is not None and betas[1] is not None:
        pair = Setting([betas[0].value, betas[1].value], betas[0].place)
        rules.append(("optimizer.params.betas", "adam_beta1, adam_beta2", pair))
    rule("optimizer.params.eps", "adam_epsilon")
    rule("optimizer.params.weight_decay", "weight_decay")
    rule("scheduler.params.warmup_max_lr", "learning_rate")
    for kind in ("fp16", "bf16"):
        if kind in arguments:
            wanted = _either(arguments[kind], arguments.get(f"{kind}_full_eval"))
            rules.append((f"{kind}.enabled", kind, wanted))
    return rules


def _either(flag: Setting, full_eval: Setting | None) -> Setting:
    if not flag.value and full_eval is not None and full_eval.value:
        return Setting(True, full_eval.place)
    return Setting(bool(flag.value), flag.place)


def _message(key: str, names: str, value: object, wanted: Setting, place: Place) -> str:
    """Say who says what, in the user's own spelling: the accelerate config has other names than the DeepSpeed file."""
    trainer = f"the trainer's {names} is {as_word(wanted.value)} ({wanted.place.where})"
    if place.kind == "json":
        return f"{key} is {as_word(value)} in the DeepSpeed config, but {trainer}"
    if key.endswith(".enabled"):
        kind, switch = key.partition(".")[0], "on" if value else "off"
        return f"the launcher's mixed_precision turns DeepSpeed's {kind} {switch}, but {trainer}"
    shown = place.key.rpartition(".")[2] if place.kind in ("yaml", "argv", "env") else key
    return f"{shown} is {as_word(value)} for DeepSpeed, but {trainer}"


def _fix(key: str, names: str, value: object, place: Place) -> str:
    if place.kind == "json":
        return f'"{key.rpartition(".")[2]}": "auto"'
    if key.endswith(".enabled"):
        return f"--{names}, or mixed_precision: 'no'" if value else f"remove --{names}"
    if place.kind == "default":
        return f"state {key} in the DeepSpeed config"
    return f"remove {place.key.rpartition('.')[2]}: without it the trainer's value is used"
