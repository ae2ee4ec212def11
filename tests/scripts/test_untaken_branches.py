"""What stands in a branch that a launch does not take holds nothing, whatever tells that it is not taken."""

from __future__ import annotations

import pytest
from launch_of_script import opens, plan_of

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


TESTED = """\
import torch
import yaml
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

config = yaml.safe_load(open("settings.yaml"))
model = AutoModelForCausalLM.from_pretrained("gpt2", torch_dtype=torch.bfloat16)
if {test}:
    model = get_peft_model(model, LoraConfig(r=8))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
for batch in loader:
    model(**batch).loss.backward()
    optimizer.step()
"""


@pytest.mark.parametrize(
    ("test", "said", "is_open"),
    [
        ("config['lora']", "false", False),
        ("config['lora'] and config['peft_rank'] > 1", "false", False),
        ("config['lora']", "true", False),
        ("config['lora'] or add_lora(model)", "false", True),
        ("config['lora'] == chosen()", "false", True),
    ],
)
def test_what_a_condition_asks_for_in_vain_is_not_there(test, said, is_open, tmp_path):
    files = {"train.py": TESTED.format(test=test), "settings.yaml": f"lora: {said}\npeft_rank: 2\n"}
    plan = plan_of(tmp_path, "torchrun --nproc_per_node 1 train.py", files)

    assert (plan.adapter is not None) is (said == "true")
    assert ("adapter" in opens(plan)) is is_open
