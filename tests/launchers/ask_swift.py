"""Asks the real ms-swift what it makes of launches; run by hand where it is installed.

`python tests/launchers/ask_swift.py` writes for every case of tests/configs/swift/manifest.yaml either `refused`, with
the reason, or the values that its argument classes settle on. Nothing is downloaded and no model is built: the model
of a case is a folder with a config alone, in bf16, and ranks are pretended.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import yaml

CASES = Path(__file__).parents[2] / "tests" / "configs" / "swift"
CLASSES = {"sft": "SftArguments", "pt": "PretrainArguments", "rlhf": "RLHFArguments"}
SETTLED = (
    *("torch_dtype", "bf16", "fp16", "max_length", "packing", "packing_length", "padding_free"),
    *("attn_impl", "per_device_train_batch_size", "per_device_eval_batch_size", "eval_strategy"),
    *("tuner_type", "lora_rank", "lora_alpha", "lora_dropout", "target_modules", "use_dora"),
    *("quant_method", "quant_bits", "bnb_4bit_compute_dtype", "bnb_4bit_use_double_quant"),
    *("gradient_checkpointing", "vit_gradient_checkpointing", "use_liger_kernel", "optim"),
    *("deepspeed", "fsdp", "fsdp_config", "freeze_vit", "freeze_aligner", "freeze_llm"),
    *("task_type", "rlhf_type", "max_completion_length", "num_generations", "sleep_level"),
)
"""Arguments that decide a plan field."""
TINY = {
    "architectures": ["Qwen2ForCausalLM"],
    "model_type": "qwen2",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 512,
    "max_position_embeddings": 32768,
    "torch_dtype": "bfloat16",
}


def ask(words: list[str]) -> dict[str, Any]:
    """Return what the arguments settle on, or why they are refused; in a process that sees no GPU."""
    main = importlib.import_module("swift.cli.main")
    parse = importlib.import_module("swift.utils").parse_args
    classes = importlib.import_module("swift.arguments")
    name, *argv = words
    main.parse_yaml_args(argv)
    ranks = int(os.environ.get("NPROC_PER_NODE", "1"))
    nodes = int(os.environ.get("NNODES", "1"))
    arguments = importlib.import_module("swift.trainers.arguments")
    arguments.is_liger_available = lambda: True
    if ranks * nodes > 1:
        # a group of one rank, which takes itself for one of many
        os.environ.update(RANK="0", LOCAL_RANK="0", WORLD_SIZE="1", LOCAL_WORLD_SIZE="1")
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(20000 + os.getpid() % 20000))
        arguments.get_dist_setting = lambda: (0, 0, ranks * nodes, ranks)
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "config.json").write_text(json.dumps(TINY))
        argv += ["--model", folder, "--model_type", "qwen2", "--template", "qwen2_5"]
        argv += ["--use_cpu", "true", "--output_dir", folder, "--add_version", "false"]
        try:
            found, left = parse(getattr(classes, CLASSES[name]), argv)
            if left:
                raise ValueError(f"remaining_argv: {left}")
        except (ValueError, AssertionError, SystemExit, NotImplementedError) as error:
            return {"refused": str(error).strip().splitlines()[-1][:160]}
    settled = {each: getattr(found, each, None) for each in SETTLED}
    settled["gradient_accumulation_steps"] = getattr(
        found.training_args, "gradient_accumulation_steps", None
    )
    return settled


def _in_its_own_process(case: dict[str, Any]) -> str:
    """Return the answer for a case as JSON; what it sets in the environment ends with its process."""
    words = [sys.executable, __file__, *case["argv"].split()[1:]]
    env = {**os.environ, **case["env"], "CUDA_VISIBLE_DEVICES": ""}
    said = subprocess.run(words, env=env, capture_output=True, text=True, check=True)
    return json.dumps(json.loads(said.stdout.strip().splitlines()[-1]))


def main() -> None:
    """Write what ms-swift says of every case, each asked in a process of its own."""
    if sys.argv[1:]:
        os.chdir(CASES)
        print("\n" + json.dumps(ask(sys.argv[1:]), default=str))
        return
    cases = yaml.safe_load((CASES / "manifest.yaml").read_text())
    asked = {
        name: case
        for name, case in cases.items()
        if case["argv"].startswith("swift ") and "NNODES" not in case["env"]  # waits for the others
    }
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(_in_its_own_process, asked.values()))
    rows = [f" {json.dumps(name)}: {said}" for name, said in zip(asked, answers, strict=True)]
    (CASES / "asked.json").write_text("{\n" + ",\n".join(rows) + "\n}\n")


if __name__ == "__main__":
    main()
