"""A name that a loop makes of itself, or of another which is made of it, ends what follows names back to what set them."""

from __future__ import annotations

import pytest
from launch_of_script import plan_of

HEAD = """\
import sys
from pathlib import Path
import yaml
from datasets import load_dataset
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainingArguments

tokenizer = AutoTokenizer.from_pretrained("Qwen/Qwen2.5-0.5B")
model = AutoModelForCausalLM.from_pretrained("Qwen/Qwen2.5-0.5B")
for word in sys.argv[1:]:
"""
TAIL = """
Trainer(model=model, args=TrainingArguments("out", per_device_train_batch_size=2), train_dataset=made).train()
"""
MADE = {
    "itself in a call": "    made = {call}(made)\n",
    "two in turn": "    made = {call}(other)\n    other = {call}(made)\n",
    "itself and more": "    made = made + [word]\n",
    "another's name": "    made = other\n    other = made\n",
}
TAKEN = {
    "path": "settings = yaml.safe_load(open(made))",
    "words": "tokenizer.add_tokens(made)\nmodel.resize_token_embeddings(len(tokenizer))",
    "layers": 'model = get_peft_model(model, LoraConfig(target_modules=made, task_type="CAUSAL_LM"))',
    "rows": "Trainer(model=model, data_collator=made, train_dataset=made.map(tokenizer))",
}


@pytest.mark.parametrize("call", ["list", "Path"])
@pytest.mark.parametrize("made", MADE)
@pytest.mark.parametrize("taken", TAKEN)
def test_a_name_made_of_itself_stops_no_launch(tmp_path, taken, made, call):
    text = HEAD + MADE[made].format(call=call) + TAKEN[taken] + TAIL
    plan = plan_of(tmp_path, "python train.py a b", {"train.py": text})

    assert plan.micro_batch_size == 2
