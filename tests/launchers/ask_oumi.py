"""Asks oumi what it makes of launches; run by hand where its wheel is unpacked.

`python tests/launchers/ask_oumi.py WHEEL...` writes for every case of tests/configs/oumi/manifest.yaml the arguments that
its TrainingConfig makes for the trainer, the variables that it sets for accelerate, and its LoRA. The folders hold oumi 0.9
and the omegaconf that it asks for, beside the torch, transformers, TRL and PEFT that are installed.
"""

from __future__ import annotations

import json
import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml
from written_answers import fill, flat

CASES = Path(__file__).parents[2] / "tests" / "configs" / "oumi"
ARGUMENTS = (
    "per_device_train_batch_size", "gradient_accumulation_steps", "gradient_checkpointing", "optim", "bf16", "fp16",
    "max_length", "max_grad_norm", "torch_compile", "use_liger_kernel", "deepspeed", "num_generations",
    "max_completion_length", "use_vllm", "eval_on_start",
)  # fmt: skip


def ask(words: list[str], under_accelerate: bool) -> dict[str, Any]:
    """Return what oumi says of the words behind `oumi train`."""
    config_of = import_module("oumi.core.configs").TrainingConfig
    distributed = import_module("oumi.core.distributed")
    config = config_of.from_yaml_and_arg_list(str(CASES / words[1]), dotted(words[2:]))
    variables = {}
    if config.fsdp.enable_fsdp and not under_accelerate:
        variables = distributed.prepare_accelerate_fsdp_run(config)
    for name in variables:
        del os.environ[name]
    arguments = handed(config)
    lora = config.peft.to_lora() if config.training.use_peft else None
    return {
        "model": config.model.model_name,
        "dtype": str(config.model.torch_dtype),
        "arguments": {name: arguments[name] for name in ARGUMENTS if name in arguments},
        "variables": variables,
        "lora": None
        if lora is None
        else {
            "rank": lora.r,
            "alpha": lora.lora_alpha,
            "dropout": lora.lora_dropout,
            "modules": sorted(lora.target_modules)
            if isinstance(lora.target_modules, set)
            else lora.target_modules,
        },
        "base": config.peft.to_bits_and_bytes().to_dict()
        if config.training.use_peft and config.peft.q_lora
        else None,
    }


def settled(words: list[str]) -> dict[str, Any]:
    """Return every value of a config as the words behind `oumi train` leave it."""
    config_of = import_module("oumi.core.configs").TrainingConfig
    config = config_of.from_yaml_and_arg_list(str(CASES / words[1]), dotted(words[2:]))
    return flat(import_module("dataclasses").asdict(config))


def behind_train(argv: str) -> list[str]:
    """Return the words behind `oumi train`."""
    words = argv.replace('"', "").split()
    return words[max(index for index, word in enumerate(words) if word == "train") + 1 :]


def handed(config: Any) -> dict[str, Any]:
    """Return what the class of the trainer's arguments is called with: on a machine without a GPU it refuses bf16."""
    found: dict[str, Any] = {}

    class Arguments(import_module("transformers").TrainingArguments):
        def __init__(self, **given: Any) -> None:
            found.update(given)

    trl, transformers = import_module("trl"), import_module("transformers")
    for name in ("SFTConfig", "DPOConfig", "GRPOConfig"):
        setattr(trl, name, Arguments)
    transformers.TrainingArguments = Arguments
    config.training.to_hf(config)
    return found


def dotted(words: list[str]) -> list[str]:
    """Return flags as oumi's command line hands them on."""
    pairs, rest = [], iter(words)
    for word in rest:
        if word != "-v":
            pairs.append(word[2:] if "=" in word else f"{word[2:]}={next(rest)}")
    return pairs


def main() -> None:
    """Write what oumi says of every case."""
    sys.path[:0] = [str(Path(one).resolve()) for one in sys.argv[1:]]
    rows = []
    for name, case in yaml.safe_load((CASES / "manifest.yaml").read_text()).items():
        said = ask(behind_train(case["argv"]), case["argv"].startswith("accelerate"))
        rows.append(f" {json.dumps(name)}: {json.dumps(said, default=str)}")
    (CASES / "asked.json").write_text("{\n" + ",\n".join(rows) + "\n}\n")
    fill(CASES, lambda case, words: settled(behind_train(words)))


if __name__ == "__main__":
    main()
