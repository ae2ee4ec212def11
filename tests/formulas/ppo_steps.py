"""Run TRL's PPO trainer on the CPU for two updates, and count what is alive in each part of the second, as JSON.

PPO left TRL after 1.12: run it in an environment with that release, or with its files before others on the path.
Policy, reference, value and reward model are random and tiny, every prompt has the same length, and no completion ends
early. Usage: ppo_steps.py CASES_JSON FOLDER
"""

from __future__ import annotations

import copy
import os
import random
from pathlib import Path
from unittest.mock import patch

import torch
from accelerate.state import AcceleratorState
from allocations import Allocations
from datasets import Dataset
from objective_steps import main, tokenizer
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
FIRST_WORD = 3


def models_of(case: dict) -> list[torch.nn.Module]:
    """Return policy, reference, reward and value model."""
    config = AutoConfig.for_model(**case["config"], pad_token_id=0, eos_token_id=1, num_labels=1)
    torch.manual_seed(0)
    made = []
    for kind in (AutoModelForCausalLM, AutoModelForSequenceClassification):
        model = kind.from_config(config).to(DTYPES[case["load"]])
        made += [model, copy.deepcopy(model)]
    return made


def trainer_of(case: dict, folder: Path):
    """Return the trainer of a case, as TRL's script makes it."""
    from trl.experimental.ppo import PPOConfig, PPOTrainer

    words = tokenizer(case["config"]["vocab_size"])
    words.padding_side = "left"
    vocab, rows = case["config"]["vocab_size"], case["micro"] * case.get("accumulation", 1)
    prompts = [
        [random.randrange(FIRST_WORD, vocab) for _ in range(case["prompt"])]
        for _ in range(4 * rows)
    ]
    policy, reference, reward, value = models_of(case)
    given = PPOConfig(
        output_dir=str(folder / "out"), per_device_train_batch_size=case["micro"],
        gradient_accumulation_steps=case.get("accumulation", 1), total_episodes=2 * rows * int(os.environ.get("WORLD_SIZE", "1")),
        num_ppo_epochs=case.get("epochs", 1),
        use_cpu=True, report_to=[], save_strategy="no", optim="adamw_torch_fused", bf16=case.get("autocast", False),
        response_length=case["completion"], num_sample_generations=0, disable_tqdm=True,
        local_rollout_forward_batch_size=case.get("rollout", 64), **case.get("arguments", {}),
    )  # fmt: skip
    policy.generation_config.suppress_tokens = None
    return PPOTrainer(
        args=given, processing_class=words, model=policy, ref_model=reference, reward_model=reward,
        value_model=value, train_dataset=Dataset.from_dict({"input_ids": prompts}),
    )  # fmt: skip


def marks(trainer, allocations: Allocations) -> dict:
    """Return functions of PPO's module that mark where a rollout begins and ends, and the forward of an update."""
    from trl.experimental.ppo import ppo_trainer as module

    generate, forward = module.batch_generation, module.forward
    score = module.selective_log_softmax
    backward, step = trainer.accelerator.backward, trainer.optimizer.step

    def marked_generate(*args, **kwargs):
        allocations.mark("rollout")
        return generate(*args, **kwargs)

    def marked_score(*args, **kwargs):
        if allocations.part == "rollout":  # and logits of the one before are gone
            allocations.mark("scoring")
        return score(*args, **kwargs)

    def marked_forward(*args, **kwargs):
        if torch.is_grad_enabled():
            allocations.mark("forward")
        return forward(*args, **kwargs)

    def marked_backward(*args, **kwargs):
        allocations.mark("backward")
        return backward(*args, **kwargs)

    def marked_step(*args, **kwargs):
        allocations.mark("optimizer")
        return step(*args, **kwargs)

    trainer.accelerator.backward, trainer.optimizer.step = marked_backward, marked_step
    return {
        "batch_generation": marked_generate,
        "selective_log_softmax": marked_score,
        "forward": marked_forward,
    }


def counted(case: dict, folder: Path) -> dict[str, object]:
    """Return the peaks of the last rollout and of the last micro batch."""
    random.seed(0)
    AcceleratorState._reset_state(reset_partial_state=True)
    os.environ["ACCELERATE_MIXED_PRECISION"] = "bf16" if case.get("autocast") else "no"
    trainer = trainer_of(case, folder)
    allocations = Allocations()
    from trl.experimental.ppo import ppo_trainer as module

    with patch.multiple(module, **marks(trainer, allocations)), allocations:
        for model in (
            trainer.policy_model,
            trainer.ref_model,
            trainer.value_model,
            trainer.reward_model,
        ):
            for tensor in (*model.parameters(), *model.buffers()):
                allocations.track(tensor.data)
        trainer.train()
    held = sum(p.numel() * p.element_size() for p in trainer.policy_model.parameters())
    checkpointed = [
        m.is_gradient_checkpointing for m in (trainer.policy_model, trainer.value_model)
    ]
    return {"peaks": allocations.peaks, "policy": held, "checkpointed": checkpointed}


if __name__ == "__main__":
    main(counted)
