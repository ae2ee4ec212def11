"""DeepSpeed's part of a launch: which config it reads, in which order the libraries fill it, what the plan gets from it."""

from __future__ import annotations

from collections.abc import Mapping

from preflight.engines.deepspeed_config import (
    DeepSpeedConfig,
    filled_from_plugin,
    filled_precision,
    load_deepspeed_file,
    plugin_values,
    synthesized,
    with_older_name,
)
from preflight.engines.deepspeed_fields import check_keys, deepspeed_fields, nested_settings
from preflight.engines.deepspeed_left_out import block_optimizer, left_out
from preflight.engines.deepspeed_match import BATCH_KEYS, batch_problems, filled_from_trainer
from preflight.engines.settings import EngineSettings
from preflight.errors import Problem
from preflight.launch import EngineFacts, LaunchCommand
from preflight.libraries.resolve import Libraries
from preflight.plan_choices import HF_TRAINERS
from preflight.reading import Problems, Reading
from preflight.setting import Place, Setting
from preflight.shell.starters.launcher_part import LauncherPart
from preflight.trainers.arguments import TrainerArguments

AUTOTP = "tensor_parallel.autotp_size"
"""DeepSpeed's key for ranks that share each matrix product (runtime/tensor_parallel/config.py, 0.19.8)."""


def _num_that_share(config: DeepSpeedConfig, world_size: int) -> int:
    """Return how many ranks share each matrix product; 1 where the ranks cannot be divided so."""
    given = config.get(AUTOTP)
    is_count = isinstance(given, int) and not isinstance(given, bool) and given > 1
    return given if is_count and world_size % given == 0 else 1


def read_deepspeed(
    part: LauncherPart,
    env: Mapping[str, Setting],
    trainer: TrainerArguments,
    trainer_file: Setting | None,
    precision: Setting,
    command: LaunchCommand,
    libraries: Libraries,
) -> Reading[EngineSettings]:
    """Return what the DeepSpeed config that the workers will have makes of the engine."""
    problems = Problems()
    is_hf, world_size = trainer.trainer in HF_TRAINERS, part.ranks["world_size"].value
    num_ranks = None if part.has_open_ranks else world_size
    documents: dict[str, str] = {}
    autos: dict[str, Place] = {}
    stated = trainer_file if trainer_file is not None else _file_of_launcher(env)
    values = problems.take(plugin_values(env))
    if stated is None:
        config = synthesized(values)
    else:
        # A script that may have no trainer at all may hand the file to DeepSpeed itself.
        needs_zero = trainer_file is None or (is_hf and trainer.is_sure)
        is_own = "ACCELERATE_USE_DEEPSPEED" not in env
        loaded = problems.take(load_deepspeed_file(stated, command, needs_zero))
        if loaded is None:
            # Refused already; the rest of the launch is still read for what else is wrong.
            fields = {"engine": Setting("zero0", stated.place), "mixed_precision": precision}
            return Reading(EngineSettings(fields, deepspeed_file=stated), tuple(problems))
        config = loaded if is_hf or not is_own else with_older_name(loaded)
        problems.extend(check_keys(config, libraries))
        problems.extend(left_out(config))
        if config.path and not config.path.startswith("-"):
            documents["deepspeed"] = config.path
    as_written = config
    # The trainer's own file is matched with its arguments before accelerate's plugin adds its values,
    # the launcher's file after: the order decides what an absent key is compared with.
    if is_hf and trainer_file is not None:
        config = problems.take(filled_from_trainer(config, trainer, num_ranks))
    if stated is not None:
        config = filled_from_plugin(config, values)
    config = problems.take(filled_precision(config, precision))
    if is_hf and trainer_file is None:
        config = problems.take(filled_from_trainer(config, trainer, num_ranks))
    fields = problems.take(deepspeed_fields(config))
    is_silent = is_hf and as_written.get("bf16.enabled") == "auto"
    if is_silent and fields["mixed_precision"].value == "no":
        problems.append(_silent_fp32(as_written.place("bf16.enabled"), precision))
    deepspeed = nested_settings(fields)
    if not is_hf:
        if num_ranks is not None:
            num_batches = num_ranks // _num_that_share(config, num_ranks)
            problems.extend(batch_problems(config, num_batches))
        autos = {k: as_written.place(k) for k in AUTO_KEYS if as_written.get(k) == "auto"}
        fields = {**fields, **_loop_fields(config, trainer)}
    shared = _num_that_share(config, world_size)
    if shared > 1:
        at = config.place(AUTOTP)
        fields = {**fields, "tensor_parallel_degree": Setting(shared, at)}
        problems.append(
            Problem(
                "DeepSpeed divides the model's matrices over ranks, and the estimate divides its states no further",
                at.where,
                severity="warning",
                unpriced="tensor parallelism of DeepSpeed's",
                takes="less",
            )
        )
    fields = {**fields, **_optimizer(config, fields, trainer)}
    engine = EngineSettings(
        fields,
        deepspeed,
        _place_of_config(config),
        documents,
        EngineFacts(
            deepspeed_optimizer=str(config.get("optimizer.type") or ""), deepspeed_autos=autos
        ),
        stated,
        _places_said_again(as_written, {**part.ranks, **fields}),
    )
    return Reading(engine, tuple(problems))


def _file_of_launcher(env: Mapping[str, Setting]) -> Setting | None:
    file = env.get("ACCELERATE_DEEPSPEED_CONFIG_FILE")
    return None if file is None or file.value in ("", "none") else file


def _silent_fp32(place: Place, precision: Setting) -> Problem:
    although = f", although {precision.place.where} says bf16" if precision.value == "bf16" else ""
    return Problem(
        f"bf16 is auto in the DeepSpeed config and --bf16 is not given: training runs in fp32{although}",
        place.where,
        "--bf16",
        "PF306",
        "warning",
    )


def _place_of_config(config: DeepSpeedConfig) -> Place:
    if config.document is None:
        return config.place("zero_optimization.stage")
    line = config.document.line("zero_optimization")
    return Place("json", config.path, "zero_optimization", line)


def _loop_fields(config: DeepSpeedConfig, trainer: TrainerArguments) -> dict[str, Setting]:
    """Return what a script of one's own has from the config and a trainer would have from its arguments.

    A DataLoader of the script gives what it is made with: DeepSpeed cuts nothing of it (runtime/engine.py, 0.19.8).
    Accelerate's one micro batch to a step, where its config says none, is no value of a script that calls DeepSpeed itself.
    """
    fields: dict[str, Setting] = {}
    steps = config.setting("gradient_accumulation_steps")
    is_own = trainer.engine is not None and trainer.engine.engines == ("deepspeed",)
    is_of_accelerate = steps.place.kind == "default" and steps.place.key == "accelerate"
    if isinstance(steps.value, int) and not (is_own and is_of_accelerate):
        fields["gradient_accumulation_steps"] = steps
    clip = config.setting("gradient_clipping")
    if isinstance(clip.value, (int, float)):
        fields["max_grad_norm"] = Setting(float(clip.value), clip.place)
    micro = config.setting("train_micro_batch_size_per_gpu")
    is_made = "micro_batch_size" in trainer.settings
    if isinstance(micro.value, int) and (
        not is_made or "micro_batch_size" in trainer.script.inferred
    ):
        fields["micro_batch_size"] = micro
    return fields


def _places_said_again(
    as_written: DeepSpeedConfig, fields: Mapping[str, Setting]
) -> dict[str, tuple[Place, ...]]:
    """Return plan field -> the place where the config states it too, beside the place that decides it."""
    places: dict[str, tuple[Place, ...]] = {}
    for key, name in _LINKED.items():
        place = as_written.place(key)
        if place.kind != "default" and place != fields.get(name, _NONE).place:
            places[name] = (place,)
    return places


def _optimizer(
    config: DeepSpeedConfig, fields: Mapping[str, Setting], trainer: TrainerArguments
) -> dict[str, Setting]:
    """Return DeepSpeed's own optimizer: a block in the file beats `--optim`, and offload replaces AdamW.

    Source: map_pytorch_optim_to_deepspeed of accelerate 1.15.0 (accelerate/utils/deepspeed.py) and
    deepspeed_optim_sched of transformers 5.24.0.
    """
    offload = fields.get("offload_optimizer", _NONE)
    forced = config.get("zero_force_ds_cpu_optimizer") is not False
    is_on_cpu = forced and offload.value not in (None, "none")
    kind = config.get("optimizer.type")
    made = trainer.settings.get("optimizer")
    if trainer.trainer is None and made is not None and made.place.kind == "script":
        return {}  # DeepSpeed steps with what it is handed (runtime/engine.py _configure_optimizer, 0.15 to 0.19)
    if kind is not None:
        name = block_optimizer(config)
        if name == "deepspeed_fused_adam" and is_on_cpu:
            name = "deepspeed_cpu_adam"
        return {} if name is None else {"optimizer": Setting(name, config.place("optimizer.type"))}
    chosen = trainer.settings.get("optimizer")
    if is_on_cpu and (chosen is None or "adamw" in str(chosen.value)):
        return {"optimizer": Setting("deepspeed_cpu_adam", offload.place)}
    return {}


AUTO_KEYS = (*BATCH_KEYS, "zero_optimization.stage")
"""Keys whose `auto` somebody must fill before DeepSpeed itself reads them."""

_NONE = Setting(None, Place("default", "", "deepspeed"))

_LINKED = {
    # DeepSpeed key -> plan field that it repeats
    "train_micro_batch_size_per_gpu": "micro_batch_size",
    "gradient_accumulation_steps": "gradient_accumulation_steps",
    "gradient_clipping": "max_grad_norm",
    "bf16.enabled": "mixed_precision",
    "fp16.enabled": "mixed_precision",
}
