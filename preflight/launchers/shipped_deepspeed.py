"""The DeepSpeed configs that LLaMA-Factory and axolotl have in their repositories or write, for a config that names one of them
where it is not: people keep their YAML in a repository of their own and start it in the framework's."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

from preflight.errors import Problem
from preflight.launch import LaunchCommand
from preflight.launchers.framework_keys import FrameworkKeys
from preflight.setting import Place, Setting
from preflight.versions.boundary import OLDEST
from preflight.versions.llamafactory import OVERLAPS_NOTHING

_AUTO = dict.fromkeys(
    ("train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps", "gradient_clipping"),
    "auto",
)  # fmt: skip
_PRECISION: dict[str, Any] = {"bf16": {"enabled": "auto"}, "fp16": {"enabled": "auto"}}
_COUNTED = ("sub_group_size", "stage3_max_live_parameters", "stage3_max_reuse_distance")
_BUCKETS = (
    "reduce_bucket_size",
    "stage3_prefetch_bucket_size",
    "stage3_param_persistence_threshold",
)
_PARAMS, _OPTIMIZER = "offload_param", "offload_optimizer"

Shipped = tuple[int, tuple[str, ...]]
"""ZeRO's stage, and the sections in which a file offloads to the host."""
LLAMA_FACTORY: dict[str, Shipped] = {
    "ds_z0_config.json": (0, ()),
    "ds_z2_config.json": (2, ()),
    "ds_z2_offload_config.json": (2, (_OPTIMIZER,)),
    "ds_z3_config.json": (3, ()),
    "ds_z3_offload_config.json": (3, (_OPTIMIZER, _PARAMS)),
}
"""Files of LLaMA-Factory's examples/deepspeed, 0.9.1 to 0.9.5."""
BOARD = ("cache", "llamaboard_cache")
"""Folders into which LLaMA Board writes all of them but the first, with the same values (create_ds_config in webui/common.py,
0.8 to 0.9.5); the commands that it shows name them there."""
AXOLOTL: dict[str, Shipped] = {
    "zero1.json": (1, ()),
    "zero2.json": (2, (_OPTIMIZER,)),
    "zero3.json": (3, ()),
    "zero3_bf16.json": (3, ()),
    "zero3_bf16_cpuoffload_params.json": (3, (_PARAMS,)),
    "zero3_bf16_cpuoffload_all.json": (3, (_OPTIMIZER, _PARAMS)),
}
"""Files of axolotl's deepspeed_configs, 0.4.0 to 0.18.0."""


def take_shipped_deepspeed(keys: FrameworkKeys, command: LaunchCommand) -> tuple[Problem, ...]:
    """Put what the framework's own file says in place of its name, where no such file is here, and return what to say of it.

    Nothing is refused for it: a file of that name may have been changed.
    """
    named = keys.get("deepspeed")
    if named is None or not isinstance(named.value, str) or command.exists(named.value):
        return ()
    path = PurePosixPath(named.value)
    shipped = _shipped(keys, path)
    if shipped is None:
        return ()
    keys.given["deepspeed"] = Setting(shipped, Place("shipped", named.value, "deepspeed"))
    return (
        Problem.left_out(
            f"there is no {path} here: it is taken for {keys.library.name}'s own file of that name",
            named.place.where,
            "another DeepSpeed config, if the file is one",
            "less",
            "run preflight where the launch starts, if it is another",
            "PF145",
        ),
    )


def _shipped(keys: FrameworkKeys, path: PurePosixPath) -> dict[str, Any] | None:
    """Return what the framework's own file of this name sets, as far as memory goes."""
    if keys.library.name == "axolotl":
        known = AXOLOTL.get(path.name) if path.parent.name == "deepspeed_configs" else None
        precision = {"bf16": {"enabled": True}} if "_bf16" in path.name else _PRECISION
        buckets: dict[str, Any] = {}
        overlaps, most = True, 0
    else:
        is_there = path.parent.parts[-2:] == ("examples", "deepspeed") or path.parent.name in BOARD
        known = LLAMA_FACTORY.get(path.name) if is_there else None
        precision = _PRECISION
        buckets = {"reduce_bucket_size": 500_000_000, "allgather_bucket_size": 500_000_000}
        version = {"llamafactory": keys.library.version} if keys.library.is_known else {}
        overlaps = not OVERLAPS_NOTHING.holds_in(
            version, OLDEST
        )  # of an unknown release, the dearer
        most = 1_000_000_000
    if known is None:
        return None
    stage, offloaded = known
    of_stage_3 = {
        **dict.fromkeys(_COUNTED, most),
        **dict.fromkeys(_BUCKETS, "auto"),
        "stage3_gather_16bit_weights_on_model_save": True,
    }
    zero: dict[str, Any] = {
        "stage": stage,
        "contiguous_gradients": True,
        "overlap_comm": overlaps,
        **(of_stage_3 if stage == 3 else buckets),
        **{section: {"device": "cpu", "pin_memory": True} for section in offloaded},
    }
    return {**_AUTO, **precision, "zero_allow_untested_optimizer": True, "zero_optimization": zero}
