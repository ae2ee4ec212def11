"""What a script imports of a library under another name, which is told by its own."""

from __future__ import annotations

import pytest
from launch_of_script import TRAINS, plan_of

from preflight.scripts.python.trees import tree_of

CALLED = """\
from datasets import load_dataset as rows_of
from transformers import (
    AutoModelForCausalLM as Model,
    AutoTokenizer as Words,
)
from transformers import Trainer as Trains, TrainingArguments as Told

def run(name, rows, tokens):
    from transformers import AutoModelForCausalLM as Model
    tokenizer = Words.from_pretrained(name)
    model = Model.from_pretrained(name)
    cut = lambda row: tokenizer(row["text"], truncation=True, max_length=tokens)
    args = Told("out", per_device_train_batch_size=rows)
    Trains(model=model, args=args, train_dataset=rows_of("rows")["train"].map(cut)).train()
"""
RUN = '\nrun("Qwen/Qwen2.5-0.5B", 4, 512)\n'


def test_a_script_says_the_same_under_other_names(tmp_path):
    own, other = (
        plan_of(tmp_path, "python train.py", {"train.py": text + RUN}) for text in (TRAINS, CALLED)
    )

    assert (own.model, own.micro_batch_size, own.seq_len) == ("Qwen/Qwen2.5-0.5B", 4, 512)
    assert {n: getattr(own, n) for n in own.origins if hasattr(own, n)} == {
        n: getattr(other, n) for n in other.origins if hasattr(other, n)
    }


def test_a_trainer_of_trl_that_is_called_as_transformers_is_trls(tmp_path):
    text = TRAINS.replace("Trainer, TrainingArguments", "TrainingArguments")
    text = "from trl import SFTTrainer as Trainer\n" + text + RUN

    assert plan_of(tmp_path, "python train.py", {"train.py": text}).trainer == "trl"


@pytest.mark.parametrize(
    "text",
    [
        "from transformers import Trainer as Base\nclass Trainer(Base):\n    pass",
        "from transformers import Trainer as Base, AutoModel as Base\nBase()",
        "from transformers import Trainer as Base\nfrom mine import Trainer\nBase()",
        "from transformers import Trainer as Base\nBase = own(Base)",
        "from transformers import Trainer as Base\ndef made(Base):\n    return Base()",
        "from .transformers import Trainer as Base\nBase()",
        "from mine import Trainer as Base\nBase()",
        "try:\n    from transformers import Trainer as Base\nexcept ImportError:\n    from trl import Trainer as Base\nBase()",
    ],
)  # fmt: skip
def test_a_name_that_means_something_else_too_stays(text):
    import ast

    assert ast.dump(tree_of(text)) == ast.dump(ast.parse(text))
