"""Modules whose own code is replaced by fused kernels, by the names that a plan has for them."""

from __future__ import annotations

from typing import Any

from preflight.launch import LaunchPlan

LIGER_SWITCHES = {
    "liger_rms_norm": ("rms_norm",),
    "liger_swiglu": ("swiglu", "geglu"),
    "liger_rope": ("rope",),
}
"""Plan's name -> arguments of Liger's apply functions (liger_kernel/transformers/monkey_patch.py, 0.8.5); the gated
MLP of any family goes by the name of the usual one."""
LIGER_KERNELS = tuple(LIGER_SWITCHES)
LIGER_TYPES = frozenset(
    {
        "deepseek_v2", "deepseek_v3", "deepseek_v4", "gemma", "gemma2", "gemma3_text", "gemma3", "gemma4_text", "gemma4",
        "glm4", "glm4v", "glm4v_moe", "gpt_oss", "internvl", "llama", "llama4_text", "llama4", "llava", "granite", "mllama",
        "mllama_text_model", "ministral", "mistral", "mixtral", "muse_glimmer", "nemotron", "olmo2", "pixtral", "olmo3",
        "qwen2", "qwen3", "qwen3_moe", "qwen2_vl", "qwen2_vl_text", "qwen2_5_vl", "qwen2_5_vl_text", "qwen3_next",
        "qwen3_5", "qwen3_5_text", "qwen3_5_moe", "qwen3_5_moe_text", "qwen3_vl", "qwen3_vl_text", "qwen3_vl_moe",
        "qwen3_vl_moe_text", "smollm3", "phi3", "paligemma", "falcon_h1", "smolvlm", "hunyuan_v1_dense", "hunyuan_v1_moe",
        "exaone4",
    }
)  # fmt: skip
"""Types of whole models that `use_liger_kernel` replaces anything of (MODEL_TYPE_TO_APPLY_LIGER_FN in
liger_kernel/transformers/monkey_patch.py, 0.8.5); of any other it says so in a log line, and the loss stays as it was."""

WITHOUT_FUSED_LOSS = ("granite", "pixtral")
"""Types of which the loss stays one over whole logits, unless it is asked for (their functions in monkey_patch.py, 0.8.5)."""
LIGER_BY_CALL = "liger_by_call"
"""Name that a script's own call of Liger's has among its arguments: what is switched on and off, and under `model_type`
of which models; empty for any that Liger knows."""


def liger_kernels(config: Any = None) -> tuple[str, ...]:
    """Return what `use_liger_kernel` replaces beside the loss: all that Liger has, less what its config switches off."""
    off = (
        {key for key, value in config.items() if value is False}
        if isinstance(config, dict)
        else set()
    )
    return tuple(name for name, switches in LIGER_SWITCHES.items() if not off & set(switches))


def asks_liger(plan: LaunchPlan) -> bool:
    """Tell whether a plan has Liger's modules wherever Liger has one, as its cost files were traced with them.

    Under ZeRO-2 and -3 the model's own modules are counted: eight published runs with Liger's took 5 to 17 GiB more
    than what is counted with them, which nothing here explains (docs/accuracy.md).
    """
    is_explained = plan.zero_stage not in (2, 3)
    return is_explained and plan.kernels is not None and set(LIGER_KERNELS) <= set(plan.kernels)
