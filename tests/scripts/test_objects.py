"""What an object of a script's own class holds is read where one line alone sets it: its constructor, or the class."""

from __future__ import annotations

import pytest
from launch_of_script import plan_of

ROWS = """
class Rows:
    CUT = 768

    def __init__(self, tokenizer, longest, more=1):
        self.tokenizer = tokenizer
        self.longest = longest
        self.more: int = more

    def cut(self, row):
        return self.tokenizer(row["text"], truncation=True, max_length={length})

class Chats(Rows):
    def other(self):
        {other}
"""
TRAIN = """
import torch
from rows import Chats
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments
LONGEST = 512
rows = Chats(tokenizer, LONGEST{more})
{after}
Trainer(
    model=AutoModelForCausalLM.from_pretrained("model"),
    args=TrainingArguments("out", per_device_train_batch_size=1),
    train_dataset=data.map(rows.cut),
).train()
"""


@pytest.mark.parametrize(
    ("length", "other", "more", "after", "seq_len"),
    [
        ("self.longest", "pass", "", "", 512),
        ("self.longest + self.more", "pass", ", more=8", "", 520),
        ("self.CUT", "pass", "", "", 768),
        ("self.longest", "self.longest = 4", "", "", None),
        ("self.CUT", "self.CUT += 4", "", "", None),
        ("self.longest", "pass", "", "rows.longest = 4", None),
        ("self.longest", "pass", "", "others = Chats(tokenizer, 4)", None),
        ("self.shortest", "pass", "", "", None),
    ],
)
def test_a_length_that_an_object_was_made_with_cuts_its_rows(
    tmp_path, length, other, more, after, seq_len
):
    """Rows of one's own class had no length, though the call that makes it says one."""
    files = {
        "rows.py": ROWS.format(length=length, other=other),
        "t.py": TRAIN.format(more=more, after=after),
    }
    plan = plan_of(tmp_path, "torchrun t.py", files)

    assert plan.seq_len == seq_len


@pytest.mark.parametrize(
    ("decorator", "base", "seq_len"), [("@dataclass\n", "", 512), ("", "(NamedTuple)", None)]
)
def test_a_field_of_a_dataclass_is_what_each_object_is_made_with(
    tmp_path, decorator, base, seq_len
):
    rows = f"""
from dataclasses import dataclass
from typing import NamedTuple

{decorator}class Rows{base}:
    tokenizer: object = None
    longest: int = 256

    def cut(self, row):
        return self.tokenizer(row["text"], truncation=True, max_length=self.longest)
"""
    script = TRAIN.format(more="", after="").replace("Chats", "Rows")
    plan = plan_of(tmp_path, "torchrun t.py", {"rows.py": rows, "t.py": script})

    assert plan.seq_len == seq_len
