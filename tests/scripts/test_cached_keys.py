"""What a script says of `use_cache`, and of which forwards it says it."""

from __future__ import annotations

import pytest
from launch_of_script import plan_of

SCRIPT = """\
import torch
from torch.utils.data import DataLoader
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

SAYS = {}
model = AutoModelForCausalLM.from_pretrained("Qwen/Qwen3-1.7B", dtype=torch.bfloat16LOADED).cuda()
AFTER
adam = torch.optim.AdamW(model.parameters(), lr=1e-5)
loader = DataLoader(rows, batch_size=2)
model.train()
for batch in loader:
    model(**batch, labels=batch["input_ids"]TRAINED).loss.backward()
    adam.step()
    adam.zero_grad()
eval_loader = DataLoader(others, batch_size=8)
model.eval()
with torch.no_grad():
    for batch in eval_loader:
        total = model(**batch, labels=batch["input_ids"]EVALUATED).loss.item()
"""


@pytest.mark.parametrize(
    ("words", "is_on"),
    [
        ({}, True),
        ({"LOADED": ", use_cache=False"}, False),
        ({"LOADED": ", use_cache=True"}, True),
        ({"LOADED": ", use_cache=False if args.gradient_checkpointing else True"}, None),
        ({"LOADED": ", use_cache=not args.gradient_checkpointing"}, None),
        ({"SAYS = {}": "SAYS = {'use_cache': False}", "LOADED": ", **SAYS"}, False),
        ({"SAYS = {}": "SAYS = dict(use_cache=False)", "LOADED": ", **SAYS"}, False),
        ({"AFTER": "model.config.use_cache = False"}, False),
        ({"AFTER": "setattr(model.config, 'use_cache', False)"}, False),
        ({"AFTER": "model.config.use_cache = args.cache"}, False),
        ({"AFTER": "if False:\n    model.config.use_cache = False"}, True),
        ({"AFTER": "model.config.use_cache = True"}, True),
        # Of these calls alone.
        ({"TRAINED": ", use_cache=False"}, True),
        ({"EVALUATED": ", use_cache=False"}, False),
        ({"AFTER": "model.generate(torch.zeros(1, 1), use_cache=False)"}, True),
    ],
)
def test_what_turns_the_cache_off(tmp_path, words, is_on):
    """DeepSpeed-Chat says it of its training step, and evaluates without."""
    text = SCRIPT
    for name, said in words.items():
        text = text.replace(name, said, 1)
    for name in ("LOADED", "AFTER", "TRAINED", "EVALUATED"):
        text = text.replace(name, "")

    plan = plan_of(tmp_path, "python train.py", {"train.py": text})

    assert plan.eval_micro_batch_size == 8
    assert plan.script_facts.caches_keys is is_on
