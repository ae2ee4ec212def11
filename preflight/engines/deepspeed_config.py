"""The DeepSpeed config of a launch: from a JSON file or made from the launcher's keys, `auto` filled in, and what it means.

Source: DeepSpeedPlugin of accelerate 1.15.0 (accelerate/utils/dataclasses.py), HfTrainerDeepSpeedConfig of
transformers 5.24.0 (transformers/integrations/deepspeed.py), DeepSpeed 0.19.8.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any

from preflight.bool_words import is_true
from preflight.errors import BadInput, Problem
from preflight.formats.document import Document, has_key, value_at, with_text_keys
from preflight.formats.load import launch_text, load_json, load_yaml
from preflight.formats.missing import no_config
from preflight.launch import LaunchCommand
from preflight.reading import Problems, Reading
from preflight.setting import Place, Setting
from preflight.shell.starters.variables import text
from preflight.values import dataclass, replace


@dataclass(frozen=True)
class DeepSpeedConfig:
    """The config dict at one step of its filling in by the libraries; every value knows where it was written."""

    values: Mapping[str, Any]
    path: str = ""
    """The file as spelled; empty where the config is made from the launcher's keys."""
    document: Document | None = None
    places: Mapping[str, Place] = field(default_factory=dict)
    """Dotted key -> place, for values that do not stand in the file."""

    def get(self, key: str) -> Any:
        """Return the value of a dotted key, or None."""
        return value_at(self.values, key)

    def has(self, key: str) -> bool:
        return has_key(self.values, key)

    def with_value(self, key: str, value: Any, place: Place | None = None) -> DeepSpeedConfig:
        """Return the config with a dotted key set, in a section of its own where there is none."""
        places = self.places if place is None else {**self.places, key: place}
        return replace(self, values=_with(self.values, key.split("."), value), places=places)

    def place(self, key: str) -> Place:
        """Return where a dotted key gets its value from."""
        if key in self.places:
            return self.places[key]
        if self.document is not None and self.has(key):
            return Place("json", self.path, key, line=self.document.line(key))
        return Place("default", "", "deepspeed")

    def setting(self, key: str) -> Setting:
        return Setting(self.get(key), self.place(key))

    def is_true(self, key: str) -> bool:
        return bool(self.get(key)) and self.get(key) != "auto"


def load_deepspeed_file(
    stated: Setting, command: LaunchCommand, needs_zero: bool
) -> Reading[DeepSpeedConfig | None]:
    """Read a DeepSpeed config given as a path, as JSON text or as a mapping; None where it cannot be used.

    `needs_zero` says that accelerate takes it, which refuses one without zero_optimization; DeepSpeed itself does not, and
    a script of somebody's own may load YAML and hand it a dict.
    """
    value, problems = stated.value, Problems()
    if isinstance(value, Mapping):
        at = stated.place
        places = {
            key: Place(at.kind, at.document, f"{at.key}.{key}", at.line)
            for key in _dotted_keys(value)
        }
        config = DeepSpeedConfig(with_text_keys(value), places=places)
    else:
        path = str(value)
        is_inline = path.lstrip().startswith("{")
        if not is_inline and not command.exists(path):
            where = stated.place.where
            return Reading(None, (no_config(command, path, "DeepSpeed config", where, "PF112"),))
        shown = stated.place.where if is_inline else path
        content = path if is_inline else launch_text(command, path, id="PF112")
        # transformers and accelerate load the file with json.load: the last of two equal keys counts.
        try:
            is_yaml = not needs_zero and path.endswith((".yaml", ".yml"))
            document = (
                load_yaml(content, shown)
                if is_yaml
                else load_json(content, shown, duplicates="warning")
            )
        except BadInput as error:
            raise error.with_id("PF112") from error
        problems.extend(replace(problem, id=problem.id or "PF103") for problem in document.problems)
        config = DeepSpeedConfig(with_text_keys(document.value), shown, document)
    if needs_zero and not isinstance(config.values.get("zero_optimization"), Mapping):
        problems.append(
            Problem(
                "zero_optimization is missing, and accelerate refuses the file without it",
                config.path or stated.place.where,
                'add "zero_optimization": {"stage": 2}',
                "PF112",
            )
        )
        return Reading(None, tuple(problems))
    return Reading(config, tuple(problems))


def _with(values: Mapping[str, Any], path: Sequence[str], value: Any) -> dict[str, Any]:
    """Return a copy with the value at the path; what lies beside the path is shared."""
    name, *rest = path
    if not rest:
        return {**values, name: value}
    section = values.get(name)
    return {**values, name: _with(section if isinstance(section, Mapping) else {}, rest, value)}


def _dotted_keys(value: Mapping[str, Any], prefix: str = "") -> list[str]:
    keys: list[str] = []
    for key, item in value.items():
        keys.append(f"{prefix}{key}")
        if isinstance(item, Mapping):
            keys.extend(_dotted_keys(item, f"{prefix}{key}."))
    return keys


_PLUGIN_VALUES = {
    # key of the config -> (variable, the plugin's default)
    "gradient_accumulation_steps": ("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "auto"),
    "gradient_clipping": ("ACCELERATE_GRADIENT_CLIPPING", "auto"),
    "zero_optimization.stage": ("ACCELERATE_DEEPSPEED_ZERO_STAGE", "2"),
    "zero_optimization.offload_optimizer.device": (
        "ACCELERATE_DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE",
        "none",
    ),
    "zero_optimization.offload_param.device": ("ACCELERATE_DEEPSPEED_OFFLOAD_PARAM_DEVICE", "none"),
    "zero_optimization.stage3_gather_16bit_weights_on_model_save": (
        "ACCELERATE_DEEPSPEED_ZERO3_SAVE_16BIT_MODEL",
        "false",
    ),
}


def plugin_values(env: Mapping[str, Setting]) -> Reading[dict[str, Setting]]:
    """Return what accelerate's plugin holds for each config key, from the launcher's environment."""
    values: dict[str, Setting] = {}
    problems = Problems()
    for key, (variable, default) in _PLUGIN_VALUES.items():
        raw = str(text(env, variable, default))
        place = env[variable].place if variable in env else Place("default", "", "accelerate")
        value: Any = raw
        try:
            if key == "gradient_accumulation_steps":
                value = int(raw) if raw.isdecimal() else raw
            elif key == "gradient_clipping":
                value = raw if raw == "auto" else float(raw)
            elif key.endswith(".stage"):
                value = int(raw)
        except ValueError:
            name = place.key.rpartition(".")[2]
            problems.append(
                Problem(f"{name} must be a number, not {raw!r}", place.where, id="PF112")
            )
            value = 2 if key.endswith(".stage") else "auto"
        if key.endswith("model_save"):
            value = raw == "true"
        values[key] = Setting(value, place)
    return Reading(values, tuple(problems))


def synthesized(values: Mapping[str, Setting]) -> DeepSpeedConfig:
    """Return the config that accelerate makes when it has no DeepSpeed file."""
    default = Place("default", "", "accelerate")
    config = DeepSpeedConfig(
        {
            "zero_optimization": {"offload_optimizer": {}, "offload_param": {}},
            "train_batch_size": "auto",
            "train_micro_batch_size_per_gpu": "auto",
        },
        places={"train_batch_size": default, "train_micro_batch_size_per_gpu": default},
    )
    for key, setting in values.items():
        if key != "gradient_clipping" or setting.value:
            config = config.with_value(key, setting.value, setting.place)
    return config


def filled_from_plugin(config: DeepSpeedConfig, values: Mapping[str, Setting]) -> DeepSpeedConfig:
    """Return a file's config with the plugin's values for `auto`, and with accumulation steps where it has none."""
    if "gradient_accumulation_steps" not in config.values:
        one = Setting(1, Place("default", "", "accelerate"))
        config = config.with_value("gradient_accumulation_steps", one.value, one.place)
    for key, setting in values.items():
        if config.get(key) == "auto":
            config = config.with_value(key, setting.value, setting.place)
    return config


def with_older_name(config: DeepSpeedConfig) -> DeepSpeedConfig:
    """Return a config that DeepSpeed itself is given with the block `bfloat16` as `bf16`, which it takes in its place
    (deepspeed/runtime/precision_config.py:37, 0.19.8; constants.py, 0.8.3). accelerate adds a `bf16` that is off
    (accelerate/utils/dataclasses.py:1442, 1.15.0), and the older name is then read by nobody."""
    older = config.values.get("bfloat16")
    if not isinstance(older, Mapping) or "bf16" in config.values:
        return config
    for key, value in older.items():
        config = config.with_value(f"bf16.{key}", value, config.place(f"bfloat16.{key}"))
    return config


def filled_precision(config: DeepSpeedConfig, precision: Setting) -> Reading[DeepSpeedConfig]:
    """Return the config with fp16 and bf16 blocks as accelerate's plugin fills them; a disabled block stays disabled."""
    problems: tuple[Problem, ...] = ()
    kind = str(precision.value)
    wanted = {"fp16": kind == "fp16", "bf16": kind in ("bf16", "fp8")}
    for block, on in wanted.items():
        if on and block not in config.values:
            config = config.with_value(f"{block}.enabled", True, precision.place)
    if kind != "no":
        other = "bf16" if kind == "fp16" else "fp16"
        if is_true(config.get(f"{other}.enabled")):
            problems = (
                Problem(
                    f"{other} is enabled in the DeepSpeed config, but mixed precision is {kind} ({precision.place.where})",
                    config.place(f"{other}.enabled").where,
                    f'"{other}": {{"enabled": "auto"}}',
                    "PF303",
                ),
            )
    for block, on in wanted.items():
        if block not in config.values:
            config = config.with_value(f"{block}.enabled", False)
        elif config.get(f"{block}.enabled") == "auto":
            config = config.with_value(f"{block}.enabled", on, precision.place)
    return Reading(config, problems)
