"""Asks Hydra what it makes of launches of verl, on verl's own configs; run by hand where hydra-core is installed.

`python tests/launchers/ask_verl.py WHEELS` writes for every case of tests/configs/verl/manifest.yaml the values that
decide a plan field. WHEELS holds the unpacked wheels of verl 0.7.0, whose last the older SFT trainer is, and 0.9.1.
"""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml
from written_answers import fill, flat

CASES = Path(__file__).parents[2] / "tests" / "configs" / "verl"
CONFIGS = {
    "verl.trainer.fsdp_sft_trainer": ("0.7.0", "sft_trainer"),
    "verl.trainer.sft_trainer": ("0.9.1", "sft_trainer_engine"),
    "verl.trainer.main_ppo": ("0.9.1", "ppo_trainer"),
}
"""Module -> the release whose configs are taken, and the name of its own one."""
SFT = (
    *("data.micro_batch_size_per_gpu", "data.train_batch_size", "data.max_length"),
    *("model.partial_pretrain", "model.strategy", "model.fsdp_config.model_dtype"),
    *("model.enable_gradient_checkpointing", "model.lora_rank", "model.lora_alpha"),
    *("model.target_modules", "model.fsdp_config.cpu_offload", "optim.clip_grad"),
    "model.fsdp_config.offload_params",
)
ENGINE = (
    *("data.micro_batch_size_per_gpu", "data.train_batch_size", "data.max_length", "data.use_dynamic_bsz"),
    *("data.max_token_len_per_gpu", "model.path", "model.enable_gradient_checkpointing", "model.lora_rank"),
    *("model.lora_alpha", "model.use_remove_padding", "engine.strategy", "engine.model_dtype", "optim.clip_grad"),
)  # fmt: skip
A, R = "actor_rollout_ref", "actor_rollout_ref.rollout"
PPO = (
    *("algorithm.adv_estimator", "data.max_prompt_length", "data.max_response_length"),
    *(f"{A}.model.path", f"{A}.model.lora_rank", f"{A}.model.enable_gradient_checkpointing"),
    *(f"{A}.actor.strategy", f"{A}.actor.ppo_micro_batch_size_per_gpu", f"{A}.actor.use_kl_loss"),
    *(f"{A}.actor.use_dynamic_bsz", f"{A}.actor.ppo_max_token_len_per_gpu"),
    *(f"{A}.actor.fsdp_config.model_dtype", f"{R}.n", f"{R}.gpu_memory_utilization"),
    *(f"{R}.tensor_model_parallel_size", "trainer.nnodes", "trainer.n_gpus_per_node"),
)


def composed(wheels: Path, argv: str) -> tuple[str, Any]:
    """Return what Hydra composes for a command's words, and the name of the trainer's own configuration."""
    hydra = import_module("hydra")
    words = argv.split()
    module = next(word for word in words if word in CONFIGS)
    release, name = CONFIGS[module]
    folder = wheels / release / "verl" / "trainer" / "config"
    words = words[words.index(module) + 1 :]
    options = dict(word.split("=", 1) for word in words if word.startswith("--"))
    own = options.get("--config-name")
    search = [f"hydra.searchpath=[file://{folder}]"] if own else []
    with hydra.initialize_config_dir(str(CASES if own else folder), version_base=None):
        overrides = [word for word in words if not word.startswith("--")]
        return name, hydra.compose(own or name, [*search, *overrides])


def ask(wheels: Path, argv: str) -> dict[str, Any]:
    """Return the values of a command that decide a plan field."""
    name, config = composed(wheels, argv)
    select = import_module("omegaconf").OmegaConf.select
    keys = {"ppo_trainer": PPO, "sft_trainer": SFT, "sft_trainer_engine": ENGINE}[name]
    found = {key: select(config, key, throw_on_missing=False) for key in keys}
    return {
        key: value if not hasattr(value, "_metadata") else list(value)
        for key, value in found.items()
    }


def main() -> None:
    """Write what Hydra composes for every case, and of what preflight writes for it."""
    cases = yaml.safe_load((CASES / "manifest.yaml").read_text())
    wheels = Path(sys.argv[1]).resolve()
    rows = [
        f" {json.dumps(name)}: {json.dumps(ask(wheels, case['argv']))}"
        for name, case in cases.items()
    ]
    (CASES / "asked.json").write_text("{\n" + ",\n".join(rows) + "\n}\n")
    # As it is written: another key may refer to one that is.
    container = import_module("omegaconf").OmegaConf.to_container
    fill(CASES, lambda case, words: flat(container(composed(wheels, words)[1], resolve=False)))


if __name__ == "__main__":
    main()
