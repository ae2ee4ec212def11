"""What keys of a DeepSpeed config change in memory and no formula counts; each is named, so that nothing fits for it.

Source: deepspeed 0.15.0 to 0.19.8, runtime/config.py, runtime/zero/config.py, runtime/zenflow, runtime/hybrid_engine.py.
"""

from __future__ import annotations

from collections.abc import Iterator

from preflight.engines.deepspeed_config import DeepSpeedConfig
from preflight.errors import Problem
from preflight.formulas.optimizer_classes import optimizer_of
from preflight.unpriced_names import DIVIDED, ZEROPP_WEIGHTS
from preflight.values import NamedTuple

_ZERO = "zero_optimization"


class _LeftOut(NamedTuple):
    name: str
    takes: str


_GATHERED_WHOLE = _LeftOut("modules that ZeRO-3 gathers whole", "more")
LEFT_OUT = {
    f"{_ZERO}.mics_shard_size": _LeftOut("MiCS's smaller groups of ranks", "more"),
    f"{_ZERO}.zero_quantized_weights": _LeftOut(ZEROPP_WEIGHTS, "either"),
    f"{_ZERO}.zero_quantized_nontrainable_weights": _LeftOut(ZEROPP_WEIGHTS, "either"),
    f"{_ZERO}.zero_quantized_gradients": _LeftOut("gradients that ZeRO++ quantizes", "either"),
    f"{_ZERO}.zenflow": _LeftOut("ZenFlow's divided step", "either"),
    f"{_ZERO}.leaf_module": _GATHERED_WHOLE,
    f"{_ZERO}.stage3_module_granularity_threshold": _GATHERED_WHOLE,
    "hybrid_engine.enabled": _LeftOut("DeepSpeed's hybrid engine", "more"),
    "torch_autocast.enabled": _LeftOut("DeepSpeed's own autocast", "either"),
    "compile.deepcompile": _LeftOut("DeepCompile", "either"),
    "weight_quantization_config": _LeftOut("weights that DeepSpeed quantizes", "either"),
    "compression_training": _LeftOut("DeepSpeed's compression", "either"),
    "quantize_training.enabled": _LeftOut("DeepSpeed's compression", "either"),
    "amp.enabled": _LeftOut("Apex's mixed precision", "either"),
    "sparse_attention": _LeftOut("sparse attention", "less"),
    "curriculum_learning.enabled": _LeftOut("shorter rows at the beginning", "less"),
    "data_efficiency.enabled": _LeftOut("DeepSpeed's data routing", "less"),
    "progressive_layer_drop.enabled": _LeftOut("layers that are left out at random", "less"),
    "expert_parallel.enabled": _LeftOut("expert parallelism of DeepSpeed's", "either"),
}
"""Dotted key -> what it turns on, and what that takes beside the estimate; -1, 1, false, {} and "auto" turn nothing on."""
OF_STAGE_3 = ("mics_shard_size", "zero_quantized_weights", "zero_quantized_nontrainable_weights",
              "zero_quantized_gradients", "leaf_module",
              "stage3_module_granularity_threshold")  # fmt: skip
"""Keys below zero_optimization that ZeRO-3 alone reads."""
OFF = (None, False, 0, 1, -1, "auto")


def left_out(config: DeepSpeedConfig) -> Iterator[Problem]:
    """Yield a warning for everything that a config turns on and that is not counted."""
    for key, (name, takes) in LEFT_OUT.items():
        value = config.get(key)
        if key.rpartition(".")[2] in OF_STAGE_3 and config.get(f"{_ZERO}.stage") != 3:
            continue
        if value is True or (value not in OFF and value != {}):
            yield _problem(config, key, name, takes)
    kind = config.get("optimizer.type")
    if kind is not None and block_optimizer(config) is None:
        yield _problem(config, "optimizer.type", f"the states of {kind}", "either")
    in_16_bits = config.is_true("bf16.enabled") or config.is_true("fp16.enabled")
    key = "communication_data_type"
    if in_16_bits and config.get(key) in ("fp32", "float32"):
        yield _problem(config, key, "gradients that are reduced in fp32", "more")
    if isinstance(degree := config.get("sequence_parallel_size"), int) and degree > 1:
        yield _problem(config, "sequence_parallel_size", DIVIDED, "less")


def block_optimizer(config: DeepSpeedConfig) -> str | None:
    """Return the plan's name of what the block `optimizer` makes on a device; None where nothing prices it.

    A type that is none of DeepSpeed's own is a class of torch (runtime/engine.py _configure_basic_optimizer, 0.8 to 0.19).
    """
    kind, params = str(config.get("optimizer.type")), config.get("optimizer.params")
    if kind.lower() in ("adam", "adamw"):
        is_torchs = config.is_true("optimizer.params.torch_adam")
        return "adamw_torch" if is_torchs else "deepspeed_fused_adam"
    cls = "Adagrad" if kind.lower() == "adagrad" else kind
    return optimizer_of(f"torch.optim.{cls}", params if isinstance(params, dict) else {})


def _problem(config: DeepSpeedConfig, key: str, name: str, takes: str) -> Problem:
    return Problem(
        f"{key} turns on {name}, which the estimate does not count",
        config.place(key).where,
        severity="warning",
        unpriced=name,
        takes=takes,
    )
