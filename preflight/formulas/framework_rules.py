"""What training frameworks decide about adapters and quantized bases, where a remedy must ask for just that."""

from __future__ import annotations

from preflight.launch import LaunchPlan

PACKS_ITSELF = {
    # _set_quantization_config of axolotl 0.19.0 (loaders/model.py) and configure_quantization of
    # LLaMA-Factory 0.9.5: NF4 whose bits pretend to be the compute dtype on every engine, norms left in it
    "axolotl": "adapter: qlora, load_in_4bit: true, lora_r: 16, lora_alpha: 32, lora_target_linear: true",
    "llamafactory": "quantization_bit: 4, finetuning_type: lora, lora_rank: 16, lora_alpha: 32, lora_target: all",
}
"""Launcher of a framework that packs the base itself -> its keys for it."""
LOADS_AS_CHECKPOINT = ("llamafactory",)
"""Launchers of frameworks that load a frozen base in the checkpoint's own dtype, whatever it is."""


def frozen_base_dtype(plan: LaunchPlan, dtype: str) -> str | None:
    """Return the dtype that a frozen base is loaded in where `dtype` is asked for; None is the checkpoint's own."""
    return None if plan.launcher in LOADS_AS_CHECKPOINT else dtype
