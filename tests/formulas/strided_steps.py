"""Run steps of axolotl's strided EBFT trainer on the CPU, and print a row of what was alive for each case.

Run where `axolotl.core.trainers.ebft.strided` of 0.18 can be imported; its mixins hold no tensors, and may be empty classes:
    PYTHONPATH=ROOT:ROOT/tests/formulas python ROOT/tests/formulas/strided_steps.py > strided_steps.jsonl
Generation and features are of 16 bits as on a card, attention while training is eager: its scores are in no graph on a card.
"""

from __future__ import annotations

import json
import tempfile
from typing import Any

import torch
from allocations import Allocations

CASES: list[dict[str, Any]] = [
    {}, {"vocab": 16384}, {"hidden": 256}, {"samples": 8}, {"batch": 2}, {"cross_entropy": 0.0}, {"adapter": False},
    {"heads": 16, "hidden": 256, "length": 256}, {"layers": 8, "length": 256}, {"vocab": 16384, "layers": 2, "adapter": False},
]  # fmt: skip
PLAIN = {
    "length": 128, "samples": 4, "vocab": 4096, "hidden": 128, "layers": 4, "heads": 4, "batch": 1, "cross_entropy": 0.03,
    "adapter": True,
}  # fmt: skip
OF_EBFT = {"stride": 8, "context_length": 8, "generate_max_len": 8, "use_whitening": True}


class OnCpu(torch.autocast):
    """What the trainer asks of a card, on the CPU."""

    def __init__(self, device_type: str, dtype: torch.dtype | None = None, **_: Any) -> None:
        super().__init__("cpu", dtype=torch.bfloat16)


def model_of(case: dict[str, Any]) -> Any:
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        hidden_size=case["hidden"],
        intermediate_size=3 * case["hidden"],
        num_hidden_layers=case["layers"],
        num_attention_heads=case["heads"],
        num_key_value_heads=2,
        vocab_size=case["vocab"],
    )
    model: Any = LlamaForCausalLM(config).to(torch.bfloat16)
    if case["adapter"]:
        model = get_peft_model(model, LoraConfig(r=8, target_modules="all-linear"))
        model.enable_input_require_grads()
    return model


def counted(case: dict[str, Any]) -> dict[str, int]:
    """Return the most that is alive in each part of a step, parameters and states among it."""
    import copy

    from axolotl.core.trainers.ebft.strided import AxolotlStridedEBFTTrainer
    from transformers import TrainingArguments

    model = model_of(case)
    arguments: Any = TrainingArguments(
        tempfile.mkdtemp(), per_device_train_batch_size=case["batch"], gradient_accumulation_steps=2, max_steps=2, bf16=True,
        gradient_checkpointing=True, gradient_checkpointing_kwargs={"use_reentrant": True}, use_cpu=True, report_to=[],
        remove_unused_columns=False,
    )  # fmt: skip
    numbers = {**OF_EBFT, "n_samples_per_prompt": case["samples"], "ce_coef": case["cross_entropy"]}
    for name, value in numbers.items():
        setattr(arguments, f"ebft_{name}", value)
    rows = [
        {"input_ids": torch.randint(0, case["vocab"], (case["length"],)), "prompt_length": torch.tensor(4)}
        for _ in range(8 * case["batch"])
    ]  # fmt: skip
    torch.cuda.device_count = lambda: 1
    policy = model if case["adapter"] else model_of({**case, "adapter": True})
    trainer = AxolotlStridedEBFTTrainer(policy, arguments, rows)
    if not case[
        "adapter"
    ]:  # a card's own copy, which the trainer makes where there is no adapter to switch off
        trainer.model = trainer.model_wrapped = model
        trainer.feature_network, trainer._share_feature_weights = copy.deepcopy(model).eval(), False
        trainer.feature_network.config._attn_implementation = "sdpa"
        trainer._feature_use_flex = False
    model.config._attn_implementation = "eager"
    trainer._feature_device = torch.device("cpu")
    seen = Allocations()

    def marked(name: str, begun: str, ended: str) -> None:
        method = getattr(trainer, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            seen.mark(begun)
            found = method(*args, **kwargs)
            seen.mark(ended)
            return found

        setattr(trainer, name, call)

    marked("_generate_strided_blocks", "sampling", "loss")
    marked("_compute_block_rewards", "features", "rest")
    marked("compute_loss", "begin", "backward")
    with seen:
        for each in (model, trainer.feature_network):
            for tensor in each.parameters() if each is not None else ():
                seen.track(tensor)
        trainer.train()
    return {part: seen.peaks[part] for part in ("sampling", "loss", "features", "backward")}


def main() -> None:
    """Print a row for each case."""
    torch.autocast = OnCpu
    torch.set_num_threads(1)
    for changes in CASES:
        torch.manual_seed(0)
        case = {**PLAIN, **changes}
        print(json.dumps({**case, "peaks": counted(case)}), flush=True)


if __name__ == "__main__":
    main()
