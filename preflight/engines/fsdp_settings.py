"""What FSDP does in every worker: accelerate's plugin, filled from the trainer's flags and the environment.

Source: FullyShardedDataParallelPlugin of accelerate 1.15.0 (accelerate/utils/dataclasses.py) and
TrainingArguments._process_fsdp_args of transformers 5.24.0. A value that is passed explicitly (by the
trainer) beats the environment (by the launcher); what neither says is the plugin's own default.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from preflight.bool_words import STRTOBOOL
from preflight.errors import Problem
from preflight.near_names import nearest_fix
from preflight.reading import Problems, Reading
from preflight.setting import Place, Setting
from preflight.shell.starters.variables import fsdp_variable
from preflight.values import dataclass

SHARDING_STRATEGIES = (
    "FULL_SHARD",
    "SHARD_GRAD_OP",
    "NO_SHARD",
    "HYBRID_SHARD",
    "HYBRID_SHARD_ZERO2",
)
WRAP_POLICIES = {
    "TRANSFORMER_BASED_WRAP": "transformer",
    "SIZE_BASED_WRAP": "size",
    "NO_WRAP": "none",
}
BACKWARD_PREFETCHES = ("BACKWARD_PRE", "BACKWARD_POST")
STATE_DICT_TYPES = ("FULL_STATE_DICT", "LOCAL_STATE_DICT", "SHARDED_STATE_DICT")


@dataclass(frozen=True)
class FsdpSettings:
    """FSDP as every worker sets it up, in plan values, each with its place."""

    strategy: str
    """FSDP1's sharding strategy; FULL_SHARD under FSDP2."""
    fields: Mapping[str, Setting]
    """Plan field -> value and place."""
    checkpoints: bool
    """FSDP's own activation checkpointing."""
    checkpoints_place: Place
    uses_orig_params: bool
    """FSDP1's flat parameters show as the originals. The launcher's default is true, the plugin's own false."""


@dataclass(frozen=True)
class _Plugin:
    """Looks a plugin argument up: explicit value, then environment, then default."""

    env: Mapping[str, Setting]
    explicit: Mapping[str, Setting]

    def get(self, name: str, default: Any) -> Setting:
        if name in self.explicit:
            return self.explicit[name]
        variable = fsdp_variable(name)
        if variable in self.env:
            return self.env[variable]
        return Setting(default, Place("default", "", "accelerate"))

    def flag(self, name: str, default: bool) -> Reading[Setting]:
        setting = self.get(name, default)
        if isinstance(setting.value, bool):
            return Reading(setting)
        switch = STRTOBOOL.read(setting.value)
        if switch is not None:
            return Reading(Setting(switch, setting.place))
        word = str(setting.value).lower()
        problem = _wrong(name, setting, "true or false")
        if name == "reshard_after_forward" and word.upper() in SHARDING_STRATEGIES:
            reshards = word in ("full_shard", "hybrid_shard")
            fix = f"{spelling(setting.place, name)}: {str(reshards).lower()}"
            problem = _wrong(name, setting, "true or false with FSDP2", fix, "PF208")
        return Reading(Setting(default, setting.place), (problem,))

    def choice(self, name: str, default: Any, choices: tuple[str, ...]) -> Reading[Setting]:
        """Return one of the names, given as the name in any case or as its number from 1."""
        setting = self.get(name, default)
        if setting.value is None:
            return Reading(setting)
        word = str(setting.value).upper()
        if word in choices:
            return Reading(Setting(word, setting.place))
        if word.isdecimal() and 1 <= int(word) <= len(choices):
            return Reading(Setting(choices[int(word) - 1], setting.place))
        wanted, fix = f"one of {', '.join(choices)}", nearest_fix(word, choices)
        return Reading(Setting(default, setting.place), (_wrong(name, setting, wanted, fix),))


def _wrong(name: str, setting: Setting, wanted: str, fix: str = "", id: str = "PF112") -> Problem:
    key = spelling(setting.place, name)
    return Problem(f"{key} must be {wanted}, not {setting.value!r}", setting.place.where, fix, id)


def spelling(place: Place, name: str) -> str:
    """Return how the user wrote a setting: the last part of its key, its flag, its variable."""
    if place.kind in ("yaml", "json"):
        return place.key.rpartition(".")[2]
    return place.key if place.kind in ("argv", "env") else name


def read_fsdp(env: Mapping[str, Setting], explicit: Mapping[str, Setting]) -> Reading[FsdpSettings]:
    """Return what the plugin makes of its arguments; what it refuses is a problem."""
    plugin, problems = _Plugin(env, explicit), Problems()
    version = plugin.get("fsdp_version", 1)
    if str(version.value) not in ("1", "2"):
        problems.append(_wrong("fsdp_version", version, "1 or 2"))
    is_v2 = str(version.value) == "2"
    fields: dict[str, Setting] = {"engine": Setting("fsdp2" if is_v2 else "fsdp1", version.place)}
    strategy = "FULL_SHARD"
    if is_v2:
        fields["reshard_after_forward"] = problems.take(plugin.flag("reshard_after_forward", True))
    else:
        choice = plugin.choice("sharding_strategy", "FULL_SHARD", SHARDING_STRATEGIES)
        chosen = problems.take(choice)
        strategy = chosen.value
        fields["reshard_after_forward"] = Setting(
            strategy in ("FULL_SHARD", "HYBRID_SHARD"), chosen.place
        )
    offload = problems.take(plugin.flag("cpu_offload", False))
    fields["offload_params"] = Setting("cpu" if offload.value else "none", offload.place)
    fields.update(problems.take(_wrapping(plugin)))
    prefetch = plugin.get("backward_prefetch", None)
    if prefetch.value is not None and str(prefetch.value).upper() != "NO_PREFETCH":
        prefetch = problems.take(plugin.choice("backward_prefetch", None, BACKWARD_PREFETCHES))
        if not is_v2 and prefetch.value is not None:
            fields["backward_prefetch"] = Setting(prefetch.value.lower(), prefetch.place)
    if not is_v2:
        fields.setdefault("backward_prefetch", Setting("none", prefetch.place))
    default = "SHARDED_STATE_DICT" if is_v2 else "FULL_STATE_DICT"
    saved = problems.take(plugin.choice("state_dict_type", default, STATE_DICT_TYPES))
    if is_v2 and saved.value == "LOCAL_STATE_DICT":
        wanted = "SHARDED_STATE_DICT or FULL_STATE_DICT with FSDP2"
        problems.append(_wrong("state_dict_type", saved, wanted, id="PF209"))
    full = saved.value == "FULL_STATE_DICT"
    fields["state_dict_type"] = Setting("full" if full else "sharded", saved.place)
    loading = plugin.flag("cpu_ram_efficient_loading", False)
    fields["cpu_ram_efficient_loading"] = problems.take(loading)
    checkpoints = problems.take(plugin.flag("activation_checkpointing", False))
    offloads = problems.take(plugin.flag("activation_checkpointing_offload", False))
    if offloads.value:
        key = spelling(offloads.place, "activation_checkpointing_offload")
        if not checkpoints.value:
            problems.append(
                Problem(
                    f"{key} needs fsdp_activation_checkpointing: true",
                    offloads.place.where,
                    id="PF112",
                )
            )
        elif not is_v2:
            problems.append(
                Problem(f"{key} needs fsdp_version: 2", offloads.place.where, id="PF112")
            )
        fields["offload_activations"] = Setting("cpu", offloads.place)
    if is_v2 and checkpoints.value and fields["wrap_policy"].value == "none":
        problems.append(
            Problem(
                f"{spelling(checkpoints.place, 'activation_checkpointing')} with FSDP2 needs a wrap policy, and there is none",
                checkpoints.place.where,
                "fsdp_auto_wrap_policy: TRANSFORMER_BASED_WRAP",
                "PF207",
            )
        )
    ignored = env.get("FSDP_IGNORED_MODULES")
    if ignored is not None and ignored.value not in (None, ""):
        problems.append(
            Problem(
                f"{spelling(ignored.place, 'ignored_modules')} keeps modules whole on every rank, which the estimate does not count",
                ignored.place.where,
                severity="warning",
                unpriced="modules that FSDP does not shard",
                takes="more",
            )
        )
    uses_orig_params = problems.take(plugin.flag("use_orig_params", False))
    fsdp = FsdpSettings(
        strategy=strategy,
        fields=fields,
        checkpoints=bool(checkpoints.value),
        checkpoints_place=checkpoints.place,
        uses_orig_params=bool(uses_orig_params.value),
    )
    return Reading(fsdp, tuple(problems))


def _wrapping(plugin: _Plugin) -> Reading[dict[str, Setting]]:
    problems = Problems()
    policy = problems.take(plugin.choice("auto_wrap_policy", "NO_WRAP", tuple(WRAP_POLICIES)))
    fields = {"wrap_policy": Setting(WRAP_POLICIES[policy.value], policy.place)}
    if policy.value == "TRANSFORMER_BASED_WRAP":
        classes = plugin.get("transformer_cls_names_to_wrap", None)
        if classes.value is not None:
            names = tuple(str(classes.value).split(","))
            if any(not name.isidentifier() for name in names):
                fix = ",".join(
                    "".join(c for c in name if c.isalnum() or c == "_") for name in names
                )
                wanted = "class names with commas and nothing else between them"
                problems.append(_wrong("transformer_layer_cls_to_wrap", classes, wanted, fix))
            fields["wrap_classes"] = Setting(names, classes.place)
    elif policy.value == "SIZE_BASED_WRAP":
        least = plugin.get("min_num_params", 0)
        text = str(least.value)
        if not text.lstrip("+-").isdecimal():
            problems.append(_wrong("min_num_params", least, "a whole number", _whole(text)))
        elif int(text) > 0:
            fields["wrap_min_num_params"] = Setting(int(text), least.place)
        else:
            # The plugin drops the policy without a word.
            fields["wrap_policy"] = Setting("none", least.place)
    return Reading(fields, tuple(problems))


def _whole(text: str) -> str:
    try:
        return f"write {int(float(text))}"
    except (ValueError, OverflowError):
        return ""
