"""Run steps of torchtune's full DPO on the CPU, and print a row of what was alive for each case.

Run in an environment with torchtune 0.6.1:
    PYTHONPATH=ROOT:ROOT/tests/formulas python ROOT/tests/formulas/tune_pair_steps.py >> tune_pairs.jsonl
"""

from __future__ import annotations

import json
from typing import Any

import torch
from allocations import Allocations
from tune_teacher_steps import DTYPES, KEYS, STUDENT, recipe_class

CASES: dict[str, dict[str, Any]] = {
    "bf16": {},
    "bf16, more words": {"words": 32768},
    "fp32": {"dtype": "fp32"},
    "checkpointed": {"checkpointing": True, "layers": 6},
    "long rows of few words": {"words": 256, "length": 512},
}


def case_of(name: str) -> dict[str, Any]:
    """Return everything of a case that its name does not say."""
    common = {"dtype": "bf16", "words": 8192, "pairs": 2, "length": 128, "layers": 2}
    return {**common, "checkpointing": False, **CASES[name]}


def config_of(case: dict[str, Any]) -> dict[str, Any]:
    """Return the shapes of policy and reference, as a config.json says them."""
    sizes = {KEYS[name]: size for name, size in STUDENT.items()}
    return {"model_type": "llama", **sizes, "num_hidden_layers": case["layers"], "vocab_size": case["words"], "tie_word_embeddings": False}  # fmt: skip


def counted(case: dict[str, Any]) -> dict[str, int]:
    """Return the peaks of the second step, parameters and states among them; the recipe's own loop is what `train` does."""
    from torchtune import modules, training
    from torchtune.models.llama3 import llama3
    from torchtune.rlhf.loss import DPOLoss

    kind = recipe_class("full_dpo_distributed", "FullDPORecipeDistributed")
    recipe = kind.__new__(kind)
    recipe._device, recipe.activations_handling_ctx = torch.device("cpu"), training.NoOpManager()
    shapes = {
        **STUDENT,
        "num_layers": case["layers"],
        "vocab_size": case["words"],
        "max_seq_len": 512,
    }
    with training.set_default_dtype(DTYPES[case["dtype"]]):
        policy, reference = llama3(**shapes), llama3(**shapes)
    if case["checkpointing"]:
        training.set_activation_checkpointing(policy, auto_wrap_policy={modules.TransformerSelfAttentionLayer})  # fmt: skip
    loss_fn = DPOLoss()
    optimizer, seen = torch.optim.AdamW(policy.parameters(), foreach=False), Allocations()
    ids = torch.randint(0, case["words"], (2 * case["pairs"], case["length"]))
    batch = (ids, ids.clone())
    with seen:
        for model in (policy, reference):
            for tensor in model.parameters():
                seen.track(tensor)
        for _ in range(2):
            seen.mark("policy")
            chosen, rejected, *logits = recipe.concatenated_forward(policy, batch)
            means = [each.detach().mean() for each in logits]
            del logits
            seen.mark("reference")
            with torch.no_grad():
                of_chosen, of_rejected, *others = recipe.concatenated_forward(
                    reference, batch, activations_handling=False
                )
            del others
            loss, *rewards = loss_fn(chosen, rejected, of_chosen, of_rejected)
            seen.mark("backward")
            loss.mean().backward()
            seen.mark("optimizer")
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            del means, rewards
    return {part: seen.peaks[part] for part in ("policy", "reference", "backward", "optimizer")}


def main() -> None:
    """Print a row for each case."""
    import torchtune

    torch.set_num_threads(1)
    torch.manual_seed(0)
    version = torchtune.__version__.partition("+")[0]
    for name in CASES:
        print(json.dumps({"name": name, "torchtune": version, "peaks": counted(case_of(name))}), flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
