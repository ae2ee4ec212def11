"""What stands in a branch that a launch does not take holds nothing, whatever tells that it is not taken."""

from __future__ import annotations

import pytest
from launch_of_script import plan_of

CLASS = """\
from dataclasses import dataclass

@dataclass
class Sharding:
    optimizer: str = "AdamW"
    keeps: bool = False
"""
SCRIPT = """\
import fire
import torch
from settings import Sharding as SHARDING
from transformers import AutoModelForCausalLM

def update(config, **given):
    for name, value in given.items():
        setattr(config, name, value)

def main(**given):
    sharding = SHARDING()
    update(sharding, **given)
    model = AutoModelForCausalLM.from_pretrained("gpt2", torch_dtype=torch.bfloat16)
    {more}
    if sharding.optimizer == "sophia":
        optimizer = Sophia(model.parameters(), lr=1e-5)
    else:
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    if sharding.keeps:
        ema = {{k: v.clone() for k, v in model.state_dict().items()}}
    for batch in loader:
        model(**batch).loss.backward()
        optimizer.step()

if __name__ == "__main__":
    fire.Fire(main)
"""


@pytest.mark.parametrize(
    ("words", "more", "named"),
    [
        ("", "pass", set()),
        ("--optimizer sophia", "pass", {"the states of Sophia"}),
        ("--keeps", "pass", {"a second copy of the model"}),
        ("", "sharding.optimizer = read()", {"the states of Sophia"}),
    ],
)
def test_a_branch_that_is_not_taken_is_not_named(words, more, named, tmp_path):
    files = {"train.py": SCRIPT.format(more=more), "settings.py": CLASS}
    plan = plan_of(tmp_path, f"torchrun --nproc_per_node 1 train.py {words}", files)

    assert {notice.unpriced for notice in plan.notices} - {
        "",
        "gradients that no engine averages",
    } == named
