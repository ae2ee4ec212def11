"""How wide the rows of a rollout are when an engine ends each at one length, on TRL's own trainers."""

from __future__ import annotations

import pytest
from datasets import Dataset
from rollout_steps import saved, trainer_of
from small_llama import LLAMA

LENGTH = 40
PROMPTS = (5, 31)


class Seen(Exception):
    """Ends a training where its first loss would be taken."""


@pytest.mark.parametrize("objective", ["grpo", "rloo"])
def test_rows_are_as_wide_as_the_longest_prompt_and_the_longest_completion(tmp_path, objective):
    case = {"objective": objective, "load": "bf16", "micro": 4, "prompt": 1, "completion": LENGTH}
    case["config"] = {**LLAMA, "vocab_size": 512}
    saved(case, tmp_path)
    trainer = trainer_of(case, tmp_path)
    rows = [" ".join(f"w{n}" for n in range(length)) for length in PROMPTS]
    trainer.train_dataset = Dataset.from_dict({"prompt": rows})
    widths = []

    def as_an_engine_would(prompt_ids, *_):
        completions = [[7] * (LENGTH - len(ids)) for ids in prompt_ids]
        return (completions, None) if objective == "grpo" else completions

    def see(model, inputs):
        widths.extend(inputs[name].shape[1] for name in ("prompt_ids", "completion_ids"))
        raise Seen

    trainer._generate_single_turn, trainer._compute_loss = as_an_engine_would, see
    with pytest.raises(Seen):
        trainer.train()

    assert widths == [max(PROMPTS), LENGTH - min(PROMPTS)]
    assert LENGTH < sum(widths) < 2 * LENGTH - 1  # what read_generation leaves open at most
