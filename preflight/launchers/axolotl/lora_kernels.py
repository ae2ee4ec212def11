"""axolotl's fused LoRA kernels: where they are refused, and where they are on without being asked for.

Source: check_lora_kernels_8bit and check_lora_kernels_trust_remote_code in utils/schemas/validation.py,
check_multigpu_lora_kernels and check_auto_enable_lora_kernels in utils/schemas/config.py of axolotl 0.19.0.
"""

from __future__ import annotations

from preflight.launchers.framework_keys import FrameworkKeys

REFUSED = ("lora_mlp_kernel", "lora_qkv_kernel", "lora_o_kernel")
KERNELS = (*REFUSED, "lora_embedding_kernel")


def check_lora_kernels(keys: FrameworkKeys) -> None:
    """Refuse kernels that cannot be, and say where the estimate is for PEFT's own layers instead of theirs."""
    is_int8 = keys.value("adapter") == "lora" and keys.is_on("load_in_8bit")
    is_remote = keys.is_on("trust_remote_code")
    version = keys.environment.get("FSDP_VERSION")
    is_fsdp1 = version is not None and version.value != "2"
    for name in REFUSED:
        kernel = keys.flag(name)
        if kernel is None or not kernel.value:
            continue
        for is_so, what in (
            (is_int8, "on an 8-bit base"),
            (is_remote, "with trust_remote_code"),
            (is_fsdp1, "with FSDP1"),
        ):
            if is_so:
                keys.refuse(f"{name} does not work {what}", kernel, f"{name}: false")
    adapter = keys.get("adapter")
    if adapter is None or adapter.value not in ("lora", "qlora"):
        return
    given = [setting for name in KERNELS if (setting := keys.flag(name)) is not None]
    by_default = not (given or keys.get("rl") or is_int8 or is_remote or is_fsdp1)
    if by_default or any(setting.value for setting in given):
        keys.note(
            "PF143",
            "axolotl's fused LoRA kernels are estimated as PEFT's own layers",
            adapter,
            "",
            "info",
        )
