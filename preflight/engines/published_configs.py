"""DeepSpeed configs that frameworks publish and their users name from a folder of their own, which has no copy of them.

Source: examples/deepspeed of LLaMA-Factory, equal from 0.7 to 0.9.5 but for `overlap_comm`, which 0.9.3 turned off and
takes more on; deepspeed_configs of axolotl 0.19. Its zero2.json is left out: it offloads the optimizer in some releases.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

AUTO = "auto"
_BATCH: dict[str, Any] = {
    "train_batch_size": AUTO,
    "train_micro_batch_size_per_gpu": AUTO,
    "gradient_accumulation_steps": AUTO,
    "gradient_clipping": AUTO,
}
_EITHER_16_BITS: dict[str, Any] = {"bf16": {"enabled": AUTO}, "fp16": {"enabled": AUTO}}
_BF16: dict[str, Any] = {"bf16": {"enabled": True}}
_ANY_OPTIMIZER = {"zero_allow_untested_optimizer": True}
_PINNED = {"device": "cpu", "pin_memory": True}
_STATES_AWAY = {"offload_optimizer": _PINNED}
_WEIGHTS_AWAY = {"offload_param": _PINNED}
_SIZES_OF_MODEL: dict[str, Any] = {
    "overlap_comm": True,
    "contiguous_gradients": True,
    "reduce_bucket_size": AUTO,
    "stage3_prefetch_bucket_size": AUTO,
    "stage3_param_persistence_threshold": AUTO,
}


def published_config(path: str) -> tuple[str, Mapping[str, Any]] | None:
    """Return who publishes a config that a path ends in the name of, and its values; None of any other path."""
    parts = tuple(path.replace("\\", "/").split("/"))
    return next((row for ends, row in PUBLISHED.items() if parts[-len(ends) :] == ends), None)


def _of_llama_factory(stage: int, **zero: Any) -> tuple[str, Mapping[str, Any]]:
    if stage == 3:
        limits = {"stage3_max_live_parameters": 10**9, "stage3_max_reuse_distance": 10**9}
        buckets = {**_SIZES_OF_MODEL, "sub_group_size": 10**9, **limits}
    else:
        sizes = {"allgather_bucket_size": 5 * 10**8, "reduce_bucket_size": 5 * 10**8}
        buckets = {"overlap_comm": True, "contiguous_gradients": True, **sizes}
    gathers = {"stage3_gather_16bit_weights_on_model_save": True} if stage == 3 else {}
    values = {"zero_optimization": {"stage": stage, **buckets, **gathers, **zero}}
    return "LLaMA-Factory", {**_BATCH, **_EITHER_16_BITS, **_ANY_OPTIMIZER, **values}


def _of_axolotl(dtypes: Mapping[str, Any], **zero: Any) -> tuple[str, Mapping[str, Any]]:
    limits = {"sub_group_size": 0, "max_live_parameters": 0, "max_reuse_distance": 0}
    gathers = {"gather_16bit_weights_on_model_save": True}
    values = {"zero_optimization": {"stage": 3, **_SIZES_OF_MODEL, **limits, **gathers, **zero}}
    its_own = {**_ANY_OPTIMIZER, "zero_force_ds_cpu_optimizer": False} if zero else {}
    return "axolotl", {**_BATCH, **dtypes, **its_own, **values}


PUBLISHED = {
    ("examples", "deepspeed", "ds_z0_config.json"): _of_llama_factory(0),
    ("examples", "deepspeed", "ds_z2_config.json"): _of_llama_factory(2),
    ("examples", "deepspeed", "ds_z2_offload_config.json"): _of_llama_factory(2, **_STATES_AWAY),
    ("examples", "deepspeed", "ds_z3_config.json"): _of_llama_factory(3),
    ("examples", "deepspeed", "ds_z3_offload_config.json"): _of_llama_factory(
        3, **_STATES_AWAY, **_WEIGHTS_AWAY
    ),
    ("deepspeed_configs", "zero3.json"): _of_axolotl(_EITHER_16_BITS),
    ("deepspeed_configs", "zero3_bf16.json"): _of_axolotl(_BF16),
    ("deepspeed_configs", "zero3_bf16_cpuoffload_all.json"): _of_axolotl(
        _BF16, **_STATES_AWAY, **_WEIGHTS_AWAY
    ),
    ("deepspeed_configs", "zero3_bf16_cpuoffload_params.json"): _of_axolotl(_BF16, **_WEIGHTS_AWAY),
}
"""The last parts of a path -> who publishes it, and what stands in it."""
