"""Run TRL's own online trainers on the CPU, generation by transformers, and count what is alive in each part of a step, as JSON.

The models are random and tiny, every prompt has the same length, and a completion ends at its limit. TRL's fused head runs as
on a GPU with Triton, in place. Usage: rollout_steps.py CASES_JSON FOLDER
"""

from __future__ import annotations

import random
from pathlib import Path

import torch
from allocations import Allocations
from datasets import Dataset
from objective_steps import lora_of, main, tokenizer, trained
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    PreTrainedModel,
)

PROMPTS = 8


def prompts(length: int) -> Dataset:
    rows = [" ".join(f"w{random.randrange(500)}" for _ in range(length)) for _ in range(PROMPTS)]
    return Dataset.from_dict({"prompt": rows})


def saved(case: dict, folder: Path) -> str:
    """Write a random model, and a reward model beside it, with the tokenizer of both; return where."""
    words = tokenizer(case["config"]["vocab_size"])
    config = AutoConfig.for_model(**case["config"], pad_token_id=0, eos_token_id=1)
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    config.num_labels = 1
    AutoModelForSequenceClassification.from_config(config).save_pretrained(folder / "reward")
    words.save_pretrained(folder)
    words.save_pretrained(folder / "reward")
    return str(folder)


def trainer_of(case: dict, folder: Path):
    """Return the trainer of a case, as a script of TRL's would make it."""
    import trl

    words = tokenizer(case["config"]["vocab_size"])
    words.padding_side, words.model_input_names = "left", ["input_ids", "attention_mask"]
    name = {"grpo": "GRPO", "rloo": "RLOO"}[case["objective"]]
    dtype = {"bf16": "bfloat16", "fp32": "float32"}[case["load"]]
    arguments = {
        "output_dir": str(folder / "out"), "per_device_train_batch_size": case["micro"],
        "gradient_accumulation_steps": case.get("accumulation", 1), "max_steps": 2, "use_cpu": True, "report_to": [],
        "save_strategy": "no", "optim": "adamw_torch_fused", "bf16": case.get("autocast", False),
        "gradient_checkpointing": case.get("checkpointing", False), "dataloader_pin_memory": False,
        "disable_tqdm": True, "num_generations": 2, "max_completion_length": case["completion"],
        "beta": case.get("beta", 0.0), "model_init_kwargs": {case.get("dtype_key", "dtype"): dtype},
        **case.get("arguments", {}),
    }  # fmt: skip
    reward = (
        str(folder / "reward")
        if case.get("reward")
        else (lambda completions, **_: [float(len(c)) for c in completions])
    )
    common = {}
    if case.get("rank"):
        common["peft_config"] = lora_of(case)
    config_class, trainer_class = getattr(trl, f"{name}Config"), getattr(trl, f"{name}Trainer")
    return trainer_class(
        model=str(folder), reward_funcs=reward, args=config_class(**arguments),
        train_dataset=prompts(case["prompt"]), processing_class=words, **common,
    )  # fmt: skip


def mark_parts(trainer, allocations) -> None:
    """Mark where a rollout begins and ends, and the parts of an update; older releases score in what generates.

    TRL 0.14 generates within its loss, whose forward begins when the model has generated.
    """
    owner = type(trainer)
    is_first = not hasattr(owner, "_get_per_token_logps") and not hasattr(owner, "_compute_loss")
    names = "_generate_single_turn", "_generate_and_score_completions", "_prepare_inputs"
    generates = next(name for name in names if hasattr(owner, name))
    takes_loss = "_compute_loss" if hasattr(owner, "_compute_loss") else "compute_loss"
    held = trainer.model if is_first else trainer
    generates = "generate" if is_first else generates
    generate = getattr(held, generates)

    def marked_generate(*args, **kwargs):
        allocations.mark("rollout")
        result = generate(*args, **kwargs)
        if is_first or generates == names[0]:
            allocations.mark("forward" if is_first else "scoring")
        return result

    compute, backward = getattr(trainer, takes_loss), trainer.accelerator.backward
    step = owner.training_step

    def marked_compute(*args, **kwargs):
        if not is_first:
            allocations.mark("forward")
        return compute(*args, **kwargs)

    def marked_backward(*args, **kwargs):
        allocations.mark("backward")
        return backward(*args, **kwargs)

    def marked_step(*args, **kwargs):
        loss = step(trainer, *args, **kwargs)
        allocations.mark("optimizer")
        return loss

    setattr(held, generates, marked_generate)
    setattr(trainer, takes_loss, marked_compute)
    trainer.accelerator.backward, trainer.training_step = marked_backward, marked_step


def counted(case: dict, folder: Path) -> dict[str, object]:
    """Return the peaks of the last step, and the rows that the models saw."""
    random.seed(0)
    saved(case, folder)
    trainer = trainer_of(case, folder)
    allocations = Allocations()
    mark_parts(trainer, allocations)
    rewards = [each for each in trainer.reward_funcs if isinstance(each, PreTrainedModel)]
    return trained(trainer, allocations, rewards)


if __name__ == "__main__":
    main(counted)
