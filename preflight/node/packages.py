"""Packages and build tools of a Python environment that decide what a launch can use, found without importing them."""

from __future__ import annotations

import os
from collections.abc import Mapping

from preflight.files import find_program
from preflight.values import dataclass

PACKAGES = (
    "torch", "accelerate", "transformers", "trl", "peft", "deepspeed", "bitsandbytes", "flash_attn", "flash_attn_3",
    "liger_kernel", "triton", "kernels", "datasets", "safetensors", "huggingface_hub", "ninja",
)  # fmt: skip
"""Import names; a distribution's folder has the same name with `_` for `-`."""


@dataclass(frozen=True)
class BuildTools:
    """What compiles an extension when it is first used."""

    cuda_home: str | None
    """$CUDA_HOME or $CUDA_PATH, else the folder above nvcc, else /usr/local/cuda: as torch looks for it."""
    nvcc: str | None
    ninja: str | None


def build_tools(env: Mapping[str, str], root: str) -> BuildTools:
    """Return the CUDA toolkit and ninja that an extension would be built with."""
    search_path = env.get("PATH", "")
    nvcc = find_program("nvcc", search_path)
    home = env.get("CUDA_HOME") or env.get("CUDA_PATH")
    if not home and nvcc is not None:
        home = os.path.dirname(os.path.dirname(nvcc))
    if not home and os.path.isdir(os.path.join(root, "usr/local/cuda")):
        home = os.path.join(root, "usr/local/cuda")
    return BuildTools(home or None, nvcc, find_program("ninja", search_path))
