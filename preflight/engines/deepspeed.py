"""DeepSpeed's part of a launch: which config it reads, in which order the libraries fill it, what the plan gets from it."""

from __future__ import annotations

from collections.abc import Mapping

from preflight.engines.deepspeed_config import (
    DeepSpeedConfig,
    fill_from_plugin,
    fill_precision,
    load_deepspeed_file,
    plugin_values,
    synthesized,
)
from preflight.engines.deepspeed_fields import check_keys, deepspeed_fields, nested_settings
from preflight.engines.deepspeed_match import BATCH_KEYS, batch_problems, fill_and_match
from preflight.engines.settings import EngineSettings
from preflight.errors import Problem
from preflight.launch import LaunchCommand
from preflight.plan_choices import HF_TRAINERS
from preflight.setting import Place, Setting
from preflight.trainers.arguments import TrainerArguments


def read_deepspeed(
    engine: EngineSettings,
    env: Mapping[str, Setting],
    trainer: TrainerArguments,
    trainer_file: Setting | None,
    precision: Setting,
    command: LaunchCommand,
    versions: Mapping[str, str],
    problems: list[Problem],
) -> None:
    """Fill in the engine from the DeepSpeed config that the workers will have.

    The trainer's own file is matched with its arguments before accelerate's plugin adds its values,
    the launcher's file after: the order decides what an absent key is compared with.
    """
    stated, arguments, is_hf = trainer_file, trainer.arguments, trainer.trainer in HF_TRAINERS
    if stated is None and env.get("ACCELERATE_DEEPSPEED_CONFIG_FILE") is not None:
        file = env["ACCELERATE_DEEPSPEED_CONFIG_FILE"]
        stated = file if file.value not in ("", "none") else None
    values = plugin_values(env, problems)
    world_size = engine.fields["world_size"].value
    config: DeepSpeedConfig | None
    if stated is None:
        config = synthesized(values)
    else:
        engine.facts["deepspeed_stated"] = stated
        config = load_deepspeed_file(stated, command, problems)
        if config is None:
            # Refused already; the rest of the launch is still read for what else is wrong.
            engine.fields["engine"] = Setting("zero0", stated.place)
            engine.fields["mixed_precision"] = precision
            return
        problems.extend(check_keys(config, versions))
        if config.path and not config.path.startswith("-"):
            engine.documents["deepspeed"] = config.path
    silent = config.get("bf16.enabled") == "auto" and config.place("bf16.enabled")
    autos = {key: config.place(key) for key in AUTO_KEYS if config.get(key) == "auto"}
    stages_places = {key: config.place(key) for key in _LINKED}
    if is_hf and trainer_file is not None:
        fill_and_match(config, arguments, world_size, problems)
    if stated is not None:
        fill_from_plugin(config, values)
    fill_precision(config, precision, problems)
    if is_hf and trainer_file is None:
        fill_and_match(config, arguments, world_size, problems)
    fields = deepspeed_fields(config, True, problems)
    if silent and fields["mixed_precision"].value == "no" and is_hf:
        although = f", although {precision.place.where} says bf16"
        problems.append(
            Problem(
                "bf16 is auto in the DeepSpeed config and --bf16 is not given: training runs in fp32"
                + (although if precision.value == "bf16" else ""),
                silent.where,
                "--bf16",
                "PF306",
                "warning",
            )
        )
    if not is_hf:
        problems.extend(batch_problems(config, world_size))
        engine.facts["deepspeed_autos"] = autos
    nested = {name: s for name, s in fields.items() if name.startswith("deepspeed.")}
    engine.fields.update(fields)
    engine.deepspeed = nested_settings(nested)
    engine.deepspeed_place = config.place("zero_optimization.stage")
    if config.document is not None:
        engine.deepspeed_place = Place(
            "json", config.path, "zero_optimization", config.document.line("zero_optimization")
        )
    if not is_hf:
        steps = config.setting("gradient_accumulation_steps")
        if isinstance(steps.value, int):
            engine.fields["gradient_accumulation_steps"] = steps
        clip = config.setting("gradient_clipping")
        if isinstance(clip.value, (int, float)):
            engine.fields["max_grad_norm"] = Setting(float(clip.value), clip.place)
        micro = config.setting("train_micro_batch_size_per_gpu")
        if isinstance(micro.value, int):
            engine.fields["micro_batch_size"] = micro
    engine.facts["deepspeed_optimizer"] = (
        (config.get("optimizer.type") or "") if config.has("optimizer") else ""
    )
    _optimizer(engine, config, trainer)
    for key, name in _LINKED.items():
        place = stages_places[key]
        if (
            place.kind != "default"
            and place != engine.fields.get(name, Setting(None, Place("default", "", ""))).place
        ):
            engine.more_places[name] = (place,)


def _optimizer(engine: EngineSettings, config: DeepSpeedConfig, trainer: TrainerArguments) -> None:
    """Record DeepSpeed's own optimizer: a block in the file beats `--optim`, and offload replaces AdamW.

    Source: map_pytorch_optim_to_deepspeed of accelerate 1.15.0 (accelerate/utils/deepspeed.py) and
    deepspeed_optim_sched of transformers 5.24.0.
    """
    offloads = engine.fields.get("offload_optimizer", _NONE).value not in (None, "none")
    forced = config.get("zero_force_ds_cpu_optimizer") is not False
    kind = config.get("optimizer.type")
    if kind is not None:
        if str(kind).lower() in ("adam", "adamw"):
            name = "deepspeed_cpu_adam" if offloads and forced else "deepspeed_fused_adam"
            engine.fields["optimizer"] = Setting(name, config.place("optimizer.type"))
        return
    chosen = trainer.settings.get("optimizer")
    if offloads and forced and (chosen is None or "adamw" in str(chosen.value)):
        place = engine.fields["offload_optimizer"].place
        engine.fields["optimizer"] = Setting("deepspeed_cpu_adam", place)


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
