"""Take two steps of ms-swift's own GRPO on the CPU, generation by transformers, and print what is alive in each part as rows for swift_rollouts.jsonl.

Run as swift_steps.py: PYTHONPATH=ROOT python ROOT/tests/formulas/swift_rollouts.py FOLDER [NAME;NAME]
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import nullcontext
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import torch
import transformers
from accelerate.state import AcceleratorState
from allocations import Allocations
from objective_steps import answers, counts_of, leave_heads, tokenizer, trained
from small_llama import LLAMA

CONFIG = {**LLAMA, "vocab_size": 8192}
CASES: dict[str, dict] = {
    "16 bits": {"load": "bf16"},
    "16 bits, autocast": {"load": "bf16", "autocast": True},
    "autocast": {"load": "fp32", "autocast": True},
    "LoRA": {"load": "bf16", "rank": 8},
    "no reference": {"load": "bf16", "beta": 0.0},
    "two steps, checkpointed": {"load": "bf16", "accumulation": 2, "checkpointing": True},
    "long completions": {"load": "bf16", "prompt": 24, "completion": 48, "micro": 8},
}


def case_of(name: str) -> dict:
    return {"micro": 4, "prompt": 116, "completion": 12, "config": CONFIG, **CASES[name]}


def is_4() -> bool:
    return not version("ms-swift").startswith("3.")


def words_of(case: dict, folder: Path) -> list[str]:
    """Write a random model with its tokenizer and prompts of one length; return the arguments of `swift rlhf`."""
    config = transformers.AutoConfig.for_model(**case["config"], pad_token_id=0, eos_token_id=1)
    dtype = {"bf16": torch.bfloat16, "fp32": torch.float32}[case["load"]]
    torch.manual_seed(0)
    transformers.AutoModelForCausalLM.from_config(config).to(dtype).save_pretrained(folder)
    words = tokenizer(case["config"]["vocab_size"])
    words.chat_template = "{% for message in messages %}{{ message['content'] }} {% endfor %}"
    words.save_pretrained(folder)
    rows = (
        {"messages": [{"role": "user", "content": each.strip()}]}
        for each in answers(case["prompt"])
    )
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    said = {
        "rlhf_type": "grpo", "model": folder, "model_type": "llama", "template": "dummy",
        "dataset": folder / "rows.jsonl", "output_dir": folder / "out", "check_model": "false",
        "tuner_type" if is_4() else "train_type": "lora" if case.get("rank") else "full",
        "torch_dtype": {"bf16": "bfloat16", "fp32": "float32"}[case["load"]],
        "bf16": "true" if case.get("autocast") else "false", "fp16": "false", "max_length": 512,
        "max_completion_length": case["completion"], "num_generations": 2, "use_vllm": "false",
        "reward_funcs": "format", "per_device_train_batch_size": case["micro"],
        "gradient_accumulation_steps": case.get("accumulation", 1), "max_steps": 2,
        "gradient_checkpointing": "true" if case.get("checkpointing") else "false",
        "gradient_checkpointing_kwargs": '{"use_reentrant":false}', "attn_impl": "sdpa", "optim": "adamw_torch",
        "save_strategy": "no", "report_to": "none", "use_cpu": "true", "split_dataset_ratio": 0,
        "dataset_num_proc": 1, "dataloader_num_workers": 0, "load_from_cache_file": "false",
    }  # fmt: skip
    if "beta" in case:
        said["beta"] = case["beta"]
    if case.get("rank"):
        said |= {"lora_rank": case["rank"], "target_modules": "q_proj v_proj", "lora_dropout": 0}
    return [word for name, value in said.items() for word in (f"--{name}", *str(value).split(" "))]


def mark_parts(trainer, allocations: Allocations) -> None:
    """Mark where a rollout begins and ends, and the parts of an update."""
    generate, compute = trainer._generate_completions, trainer._compute_loss
    backward, step = trainer.accelerator.backward, trainer.training_step

    def marked_generate(*args, **kwargs):
        allocations.mark("rollout")
        found = generate(*args, **kwargs)
        allocations.mark("scoring")
        return found

    def marked_compute(*args, **kwargs):
        allocations.mark("forward")
        return compute(*args, **kwargs)

    def marked_backward(*args, **kwargs):
        allocations.mark("backward")
        return backward(*args, **kwargs)

    def marked_step(*args, **kwargs):
        loss = step(*args, **kwargs)
        allocations.mark("optimizer")
        return loss

    trainer._generate_completions, trainer._compute_loss = marked_generate, marked_compute
    trainer.accelerator.backward, trainer.training_step = marked_backward, marked_step


def counted(case: dict, folder: Path) -> dict[str, object]:
    """Return the peaks of the last step, and the rows that the models saw."""
    module = "pipelines.train.rlhf" if is_4() else "llm.train.rlhf"
    SwiftRLHF = import_module(f"swift.{module}").SwiftRLHF
    os.environ.pop("ACCELERATE_MIXED_PRECISION", None)
    AcceleratorState._reset_state(True)
    found: dict[str, object] = {}

    class Counted(SwiftRLHF):
        def train(self, trainer):
            allocations = Allocations()
            trainer.autocast_smart_context_manager = nullcontext  # is there on a CPU alone
            mark_parts(trainer, allocations)
            found.update(trained(trainer, allocations))
            return {}

    Counted(words_of(case, folder)).main()
    return found


def main() -> None:
    """Print a row for every case."""
    torch.set_num_threads(1)
    leave_heads()
    for name in sys.argv[2].split(";") if len(sys.argv) > 2 else list(CASES):
        folder = Path(sys.argv[1]) / "grpo" / name.replace(" ", "_").replace(",", "")
        folder.mkdir(parents=True, exist_ok=True)
        found = counted(case_of(name), folder)
        shapes, peaks = counts_of(found)
        row = {
            "ms_swift": version("ms-swift"), "trl": version("trl"), "transformers": transformers.__version__,
            "name": name, "shapes": shapes[-3:],
            "peaks": peaks,
        }  # fmt: skip
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
