"""The trainer's own `--fsdp` and `--fsdp_config` as arguments of accelerate's FSDP plugin.

Source: TrainingArguments._process_fsdp_args and _apply_legacy_fsdp_to_config of transformers 5.24.0
(transformers/training_args.py). The trainer's defaults differ from the launcher's: version 2,
TRANSFORMER_BASED_WRAP, cpu_ram_efficient_loading false, FULL_STATE_DICT. Before 5.10 (5.9.0, 5.0.0, 4.44.2):
version 1, wrapping only where `auto_wrap` is said, and what neither says is the plugin's own default.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from preflight.engines.fsdp_settings import SHARDING_STRATEGIES, WRAP_POLICIES
from preflight.errors import Problem
from preflight.formats.load import launch_text, load_json
from preflight.formats.missing import no_config
from preflight.launch import LaunchCommand
from preflight.libraries.resolve import Libraries
from preflight.near_names import nearest_fix
from preflight.reading import Problems, Reading
from preflight.setting import Place, Setting
from preflight.versions.transformers import DEFAULTS_TO_FSDP2, READS_FSDP_VERSION

READ_KEYS = (
    "version", "cpu_offload", "auto_wrap_policy", "min_num_params", "transformer_layer_cls_to_wrap",
    "cpu_ram_efficient_loading", "state_dict_type", "activation_checkpointing", "reshard_after_forward",
    "forward_prefetch", "backward_prefetch", "use_orig_params", "sync_module_states", "limit_all_gathers", "xla",
    "xla_fsdp_v2", "xla_fsdp_grad_ckpt", "xla_fsdp_settings",
)  # fmt: skip
LOOK_ALIKES = {
    "offload_params": "cpu_offload",
    "transformer_cls_to_wrap": "transformer_layer_cls_to_wrap",
}


def plugin_arguments(
    arguments: Mapping[str, Setting], command: LaunchCommand, libraries: Libraries
) -> Reading[dict[str, Setting]]:
    """Return plugin argument -> value and place; empty where the trainer leaves FSDP to the launcher."""
    fsdp = arguments.get("fsdp")
    if fsdp is None or not fsdp.value:
        return Reading({})
    problems = Problems()
    given = problems.take(_given(arguments.get("fsdp_config"), command))
    versions = {"transformers": libraries.version("transformers")}
    if not DEFAULTS_TO_FSDP2.holds_in(versions):
        return Reading(_of_old(fsdp, given, READS_FSDP_VERSION.holds_in(versions)), tuple(problems))
    default = Place("default", "", "transformers")
    version = given.get("version", Setting(2, fsdp.place))
    if not isinstance(fsdp.value, bool):
        words = _legacy_words(fsdp, str(version.value), libraries.is_known("transformers"))
        given = {**problems.take(words), **given}
    explicit = {"fsdp_version": version}

    def take(name: str, fallback: Any, plugin_name: str = "") -> None:
        setting = given.get(name)
        explicit[plugin_name or name] = Setting(fallback, default) if setting is None else setting

    if "cpu_offload" in given and given["cpu_offload"].value:
        explicit["cpu_offload"] = Setting(True, given["cpu_offload"].place)
    take("auto_wrap_policy", "TRANSFORMER_BASED_WRAP")
    policy = explicit["auto_wrap_policy"]
    if policy.value not in WRAP_POLICIES:
        problems.append(
            Problem(
                f"auto_wrap_policy must be one of {', '.join(WRAP_POLICIES)}, not {policy.value!r}",
                policy.place.where,
                id="PF112",
            )
        )
    least = given.get("min_num_params")
    if policy.value == "SIZE_BASED_WRAP" and least is not None:
        explicit["min_num_params"] = least
    classes = given.get("transformer_layer_cls_to_wrap")
    if (
        policy.value == "TRANSFORMER_BASED_WRAP"
        and classes is not None
        and classes.value is not None
    ):
        names = [classes.value] if isinstance(classes.value, str) else list(classes.value)
        explicit["transformer_cls_names_to_wrap"] = Setting(
            ",".join(map(str, names)), classes.place
        )
    take("cpu_ram_efficient_loading", False)
    take("state_dict_type", "FULL_STATE_DICT")
    if "activation_checkpointing" in given:
        explicit["activation_checkpointing"] = given["activation_checkpointing"]
    if str(version.value) == "2":
        take("reshard_after_forward", True)
    else:
        take("backward_prefetch", "NO_PREFETCH")
        take("reshard_after_forward", "FULL_SHARD", "sharding_strategy")
    return Reading(explicit, tuple(problems))


def _of_old(fsdp: Setting, given: Mapping[str, Setting], reads_version: bool) -> dict[str, Setting]:
    """Return the plugin's arguments as transformers before 5.10 fills them in."""
    default = Place("default", "", "transformers")
    said = ["full_shard"] if fsdp.value is True else fsdp.value
    words = said.split() if isinstance(said, str) else list(said) if said else []
    version = given.get("version") if reads_version else None
    explicit = {"fsdp_version": version or Setting(1, fsdp.place)}
    if str(explicit["fsdp_version"].value) == "2":
        explicit["reshard_after_forward"] = given.get(
            "reshard_after_forward", Setting(False, default)
        )
    for word in words:
        if str(word).upper() in SHARDING_STRATEGIES:
            explicit["sharding_strategy"] = Setting(word, fsdp.place)
    if "offload" in words:
        explicit["cpu_offload"] = Setting(True, fsdp.place)
    if "auto_wrap" in words:
        least, classes = given.get("min_num_params"), given.get("transformer_layer_cls_to_wrap")
        is_by_size = least is not None and isinstance(least.value, int) and least.value > 0
        policy = "SIZE_BASED_WRAP" if is_by_size else "TRANSFORMER_BASED_WRAP"
        explicit["auto_wrap_policy"] = Setting(policy, fsdp.place)
        if is_by_size and least is not None:
            explicit["min_num_params"] = least
        elif classes is not None and classes.value is not None:
            names = [classes.value] if isinstance(classes.value, str) else list(classes.value)
            listed = Setting(",".join(map(str, names)), classes.place)
            explicit["transformer_cls_names_to_wrap"] = listed
    for name, fallback in (
        ("cpu_ram_efficient_loading", False),
        ("backward_prefetch", "NO_PREFETCH"),
        ("use_orig_params", True),
    ):
        explicit[name] = given.get(name, Setting(fallback, default))
    if "activation_checkpointing" in given:
        explicit["activation_checkpointing"] = given["activation_checkpointing"]
    return explicit


def _given(stated: Setting | None, command: LaunchCommand) -> Reading[dict[str, Setting]]:
    if stated is None or stated.value in (None, "", {}):
        return Reading({})
    problems = Problems()
    value, document = stated.value, None
    if not isinstance(value, Mapping):
        path = str(value)
        inline = path.startswith("{")
        if not inline and not command.exists(path):
            where = stated.place.where
            return Reading({}, (no_config(command, path, "FSDP config", where, "PF112"),))
        shown = stated.place.where if inline else path
        text = path if inline else launch_text(command, path, id="PF112")
        document = load_json(text, shown, duplicates="warning")
        problems.extend(document.problems)
        value = document.value
    given: dict[str, Setting] = {}
    for key, item in value.items():
        name = str(key).removeprefix("fsdp_")
        if document is not None:
            place = Place("json", document.path, str(key), line=document.line(str(key)))
        else:
            place = Place(
                stated.place.kind,
                stated.place.document,
                f"{stated.place.key}.{key}",
                stated.place.line,
            )
        given[name] = Setting(item, place)
        if name not in READ_KEYS:
            near = LOOK_ALIKES.get(name)
            problems.append(
                Problem(
                    f"transformers ignores the key {str(key)!r} in fsdp_config",
                    place.where,
                    f"did you mean {near}" if near else nearest_fix(name, READ_KEYS) or "remove it",
                    "PF101",
                    "warning",
                )
            )
    return Reading(given, tuple(problems))


def _legacy_words(fsdp: Setting, version: str, is_known: bool) -> Reading[dict[str, Setting]]:
    """Return what `--fsdp "full_shard auto_wrap offload"` says in keys of fsdp_config.

    `is_known` tells whether somebody says the version of transformers that refuses some of them.
    """
    if not isinstance(fsdp.value, (str, list, tuple)):
        wrong = f"fsdp must be true, false or words, not {fsdp.value!r}"
        return Reading({}, (Problem(wrong, fsdp.place.where, id="PF112"),))
    given: dict[str, Setting] = {}
    problems = Problems()
    words = fsdp.value.split() if isinstance(fsdp.value, str) else list(fsdp.value)
    for word in words:
        if str(word).upper() in SHARDING_STRATEGIES:
            if version != "2":
                given.setdefault("reshard_after_forward", Setting(word, fsdp.place))
            elif word in ("full_shard", "shard_grad_op"):
                given.setdefault("reshard_after_forward", Setting(word == "full_shard", fsdp.place))
            else:
                fix = 'fsdp_config {"version": 1}, or parallelism_config for copies of the shards'
                problems.append(
                    Problem(
                        f"fsdp {word} exists only with FSDP1, and the trainer's default is FSDP2",
                        fsdp.place.where,
                        fix,
                        "PF112",
                        "error" if is_known else "warning",
                    )
                )
        elif word == "offload":
            given.setdefault("cpu_offload", Setting(True, fsdp.place))
        elif word != "auto_wrap":
            fix = (
                "--fsdp without a value turns it on"
                if str(word).lower() in ("true", "false")
                else nearest_fix(
                    str(word),
                    (
                        "full_shard",
                        "shard_grad_op",
                        "hybrid_shard",
                        "no_shard",
                        "offload",
                        "auto_wrap",
                    ),
                )
            )
            problems.append(
                Problem(f"fsdp does not know the word {word!r}", fsdp.place.where, fix, "PF112")
            )
    return Reading(given, tuple(problems))
