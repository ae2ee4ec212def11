"""A loop of one's own holds the logits for as long as a name does, and the plan says how long."""

from __future__ import annotations

import ast

import pytest
from launch_of_script import plan_of

from preflight.scripts.uncounted.held_outputs import held_outputs

LOOP = """
import torch
from accelerate import Accelerator
from transformers import AutoModelForCausalLM

def main():
    accelerator = Accelerator()
    model = AutoModelForCausalLM.from_pretrained("model")
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    for batch in loader:
        with accelerator.accumulate(model):
            {taken}
            {before}
            accelerator.backward(loss)
            {behind}
            optimizer.step()
            optimizer.zero_grad()
        {at_end}

main()
"""
HELD = {"taken": "outputs = model(**batch); loss = outputs.loss"}
CASES = {
    "held to the next": (HELD, None),
    "never held": ({"taken": "loss = model(**batch).loss"}, False),
    "dropped before backward": ({**HELD, "before": "del outputs"}, False),
    "dropped behind backward": ({**HELD, "behind": "del outputs, batch"}, "backward"),
    "dropped behind the step": ({**HELD, "at_end": "outputs = None"}, "step"),
    "dropped at times": ({**HELD, "at_end": "if batch: del outputs"}, None),
    "logits have a name too": ({**HELD, "before": "logits = outputs.logits; del outputs"}, None),
    "handed to a function": ({**HELD, "before": "show(outputs); del outputs"}, None),
}


def loop_of(words: dict[str, str]) -> str:
    rest = dict.fromkeys(("before", "behind", "at_end"), "pass")
    return LOOP.format(**{**rest, **words})


@pytest.mark.parametrize("name", CASES)
def test_a_loop_says_when_it_drops_the_outputs(name):
    words, keeps = CASES[name]
    held = held_outputs([ast.parse(loop_of(words))])

    assert (held and held.keeps) == keeps
    assert held is None or held.line > 10


@pytest.mark.parametrize("name", ["held to the next", "never held", "dropped behind the step"])
def test_the_plan_of_a_launch_has_it(tmp_path, name):
    words, keeps = CASES[name]
    plan = plan_of(tmp_path, "accelerate launch train.py", {"train.py": loop_of(words)})

    assert plan.keeps_outputs == keeps
    assert keeps is None or plan.origins["keeps_outputs"].where.startswith("train.py:")
