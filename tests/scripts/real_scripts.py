"""Runs training scripts of the corpus in this process and prints, as JSON, what they gave to the real libraries.

The config classes are the libraries' own; loading a model and training are cut off, because both need more
than a CPU. One process for all scripts: importing the libraries takes longer than all of them together.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
from pathlib import Path
from typing import Any

SETTINGS = (
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "max_grad_norm",
    "bf16",
    "fp16",
    "max_length",
    "packing",
)


class Trained(Exception):
    """Raised where training would start."""


def main() -> None:
    """Run every script named by a line of stdin: variables, folder, name, arguments."""
    import accelerate.utils  # noqa: F401
    import peft
    import torch
    import transformers
    import trl

    dtypes = {torch.bfloat16: "bf16", torch.float16: "fp16", torch.float32: "fp32"}
    seen: dict[str, Any] = {}

    def load(name: str, *_: Any, **options: Any) -> torch.nn.Module:
        seen["model"] = {"name": name, **{k: str(v) for k, v in options.items() if "dtype" in k}}
        seen["model"]["attention"] = options.get("attn_implementation")
        if "quantization_config" in options:
            config = options["quantization_config"]
            eight = config.load_in_8bit
            seen["quantization"] = {
                "scheme": "int8" if eight else config.bnb_4bit_quant_type,
                "double_quant": config.bnb_4bit_use_double_quant,
                "compute": None if eight else dtypes[config.bnb_4bit_compute_dtype],
            }
        return torch.nn.Linear(1, 1)

    def train(*given: Any, **options: Any) -> None:
        arguments = options.get("args", next((g for g in given if hasattr(g, "output_dir")), None))
        seen["arguments"] = {k: getattr(arguments, k) for k in SETTINGS if hasattr(arguments, k)}
        seen["arguments"]["optim"] = (
            arguments.optim.value if hasattr(arguments.optim, "value") else arguments.optim
        )
        seen["checkpointing"] |= bool(arguments.gradient_checkpointing)
        if options.get("peft_config") is not None:
            adapt(None, options["peft_config"])
        raise Trained

    def adapt(model: Any, config: Any) -> Any:
        seen["adapter"] = {
            "rank": config.r,
            "alpha": config.lora_alpha,
            "dropout": config.lora_dropout,
            "targets": sorted(config.target_modules)
            if isinstance(config.target_modules, set)
            else config.target_modules,
        }
        return model

    def prepare(model: Any, use_gradient_checkpointing: bool = True, **_: Any) -> Any:
        seen["checkpointing"] |= use_gradient_checkpointing
        return model

    transformers.training_args.is_torch_bf16_gpu_available = lambda: True  # as on the GPUs meant
    transformers.AutoModelForCausalLM.from_pretrained = load
    transformers.AutoTokenizer.from_pretrained = lambda *_, **__: None
    for module in (transformers, transformers.trainer):
        module.Trainer = train
    trl.SFTTrainer = train
    peft.get_peft_model = adapt
    peft.prepare_model_for_kbit_training = prepare
    results = []
    for line in sys.stdin:
        variables, folder, name, *words = json.loads(line)
        seen.clear()
        seen["checkpointing"] = False
        before = dict(os.environ)
        os.environ.update(variables)
        sys.argv = [name, *words]
        os.chdir(folder)
        sys.path.insert(0, folder)
        try:
            runpy.run_path(str(Path(folder) / name), run_name="__main__")
            outcome = "ended"
        except Trained:
            outcome = "trained"
        except (Exception, SystemExit) as error:
            outcome = f"{type(error).__name__}: {error}"
        sys.path.remove(folder)
        os.environ.clear()
        os.environ.update(before)
        results.append({"outcome": outcome, **seen})
    print("RESULTS" + json.dumps(results))


if __name__ == "__main__":
    main()
