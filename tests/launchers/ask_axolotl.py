"""Asks the real axolotl what it makes of configs; run by hand where axolotl is installed, or its source is on PYTHONPATH.

`python tests/launchers/ask_axolotl.py FOLDER FOLDER/asked.json` writes for every config of the folder either
`refused`, with the first line of the reason, or the values that its schema settles on. The schema module needs
pydantic and pillow beside torch and transformers; nothing is downloaded and no model is built.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import json
import sys
import types
from pathlib import Path
from typing import Any

import yaml

CAPABILITIES = {
    "bf16": True,
    "fp8": True,
    "tf32": True,
    "n_gpu": 8,
    "n_node": 1,
    "compute_capability": "sm_90",
}
"""Eight Hopper cards: what the schema asks of the machine."""
SETTLED = (
    "base_model",
    "sequence_len",
    "micro_batch_size",
    "gradient_accumulation_steps",
    "batch_size",
    "gradient_checkpointing",
    "gradient_checkpointing_kwargs",
    "activation_offloading",
    "adapter",
    "load_in_4bit",
    "load_in_8bit",
    "lora_r",
    "lora_alpha",
    "lora_target_linear",
    "attn_implementation",
    "optimizer",
    "bf16",
    "fp16",
    "fsdp_version",
    "fsdp_config",
    "deepspeed",
    "sample_packing",
    "pad_to_sequence_len",
    "context_parallel_size",
    "tensor_parallel_size",
    "torch_compile",
    "val_set_size",
)


def ask(config: dict[str, Any]) -> dict[str, Any]:
    """Return what the schema settles on, or why it refuses."""
    schema = importlib.import_module("axolotl.utils.schemas.config").AxolotlConfigWCapabilities
    torch_version = importlib.import_module("torch").__version__.split("+")[0]
    whole = {
        **config,
        "capabilities": CAPABILITIES,
        "env_capabilities": {"torch_version": torch_version},
    }
    try:
        settled = schema(**whole).model_dump(exclude_none=True)
    except (ValueError, TypeError, NotImplementedError, DeprecationWarning) as error:
        # pydantic: `1 validation error for ...`, the key where there is one, the reason
        lines = [line.strip() for line in str(error).splitlines()]
        reasons = [line for line in lines if "[type=" in line] or lines
        return {"refused": reasons[0].partition(" [type=")[0]}
    return {name: settled[name] for name in SETTLED if name in settled}


def pretend_installed(*names: str) -> None:
    """Let the schema import kernels that only a GPU machine has; it only asks whether they are there."""
    for name in names:
        module = types.ModuleType(name)
        module.__spec__ = importlib.machinery.ModuleSpec(name, None)
        sys.modules[name] = module


def main() -> None:
    """Write what axolotl says of a folder's configs, one to a line."""
    pretend_installed("ring_flash_attn", "mistral_common")
    folder = Path(sys.argv[1])
    answers = {
        str(path.relative_to(folder)): ask(yaml.safe_load(path.read_text(encoding="utf-8")))
        for path in sorted(folder.rglob("*.y*ml"))
        if path.name != "manifest.yaml"
    }
    rows = ",\n".join(
        f" {json.dumps(name)}: {json.dumps(said, default=str)}" for name, said in answers.items()
    )
    Path(sys.argv[2]).write_text(f"{{\n{rows}\n}}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
