"""What a function does that a step asks for its loss is done in the step: forward passes, rows and a loss of its own."""

from __future__ import annotations

import pytest
from launch_of_script import plan_of

from preflight.scripts.uncounted.asked_in_steps import asked_in
from preflight.scripts.uncounted.own_steps import functions_of, uncounted_calls
from preflight.unpriced_names import FORWARD_BESIDE, GENERATES_BESIDE, GROWN, SECOND_FORWARD

STEP = """\
for batch in loader:
    {step}
    optimizer.step()
"""
TWICE = "def {name}(model, batch):\n    one = model(**batch).loss\n    return one + model(**batch).loss\n"
MORE = "def {name}(model, batch):\n    ids = torch.cat([batch['input_ids']] * 4)\n    return model(input_ids=ids, labels=ids).loss\n"
ONE = "def {name}(model, batch):\n    return model(**batch).loss\n"
ASKS = "loss = total(model, batch)\n    loss.backward()"


def names_of(*texts):
    asked, functions = asked_in(texts), functions_of(texts)
    return {name for text in texts for name, _ in uncounted_calls(text, text, functions, asked)}


@pytest.mark.parametrize(
    ("functions", "step", "names"),
    [
        (TWICE.format(name="total"), ASKS, {SECOND_FORWARD}),
        (MORE.format(name="total"), ASKS, {GROWN}),
        (ONE.format(name="total"), ASKS, set()),
        (TWICE.format(name="total"), "total(model, batch).backward()", {SECOND_FORWARD}),
        (TWICE.format(name="total"), "accelerator.backward(total(model, batch) / 4)", {SECOND_FORWARD}),
        (TWICE.format(name="total"), "loss, seen = total(model, batch), 1\n    scaled = loss / 4\n    scaled.backward()", {SECOND_FORWARD}),
        (ONE.format(name="one") + "def total(model, batch):\n    return one(model, batch) + one(model, batch)\n", ASKS, {SECOND_FORWARD}),
        (ONE.format(name="one") + "def total(model, batch):\n    return one(model, batch)\n", ASKS, set()),
        (ONE.format(name="total"), "loss = total(model, batch) + total(model, batch)\n    loss.backward()", {SECOND_FORWARD}),
        (ONE.format(name="total") + TWICE.format(name="look"), f"{ASKS}\n    print(look(model, batch))", set()),
        (f"{ONE.format(name='total')}@torch.no_grad()\n{TWICE.format(name='look')}", "loss = total(model, batch)\n    seen = look(model, batch)\n    loss = loss * seen\n    loss.backward()", set()),
    ],
)  # fmt: skip
def test_a_function_that_a_step_asks_for_its_loss_is_of_the_step(functions, step, names):
    """It was passed over: two forward passes, or four times the rows, were said to fit as one."""
    assert names_of(functions + STEP.format(step=step)) == names


def test_the_function_may_stand_in_another_file_and_in_a_class():
    of_class = "class Own(Trainer):\n    def compute_loss(self, model, inputs):\n        return self.whole(model, inputs)\n    def whole(self, model, inputs):\n        return total(model, inputs)\n"

    assert names_of(of_class, TWICE.format(name="total")) == {SECOND_FORWARD}
    assert names_of(of_class, ONE.format(name="total")) == set()


SEVERAL = (
    "def {name}(rows):\n    return {{k: v.repeat_interleave(8, 0) for k, v in rows.items()}}\n"
)
TWO = "def pair(rows):\n    ids = torch.cat([rows['ids'], rows['ids']])\n    return ids, ids.clone()\n"
STACKED = (
    "def stacked(rows):\n    return {'input_ids': torch.stack([row['ids'] for row in rows])}\n"
)
MOVED = "def moved(rows):\n    return {k: v.to('cuda') for k, v in rows.items()}\n"
ASKS_FOR_ROWS = "loss = model(**{name}(batch)).loss\n    loss.backward()"


@pytest.mark.parametrize(
    ("functions", "step", "is_grown"),
    [
        (SEVERAL.format(name="several"), ASKS_FOR_ROWS.format(name="several"), True),
        (SEVERAL.format(name="several"), "batch = several(batch)\n    model(**batch).loss.backward()", True),
        (SEVERAL.format(name="several"), "batch = self.several(batch)\n    model(**batch).loss.backward()", True),
        (TWO, "ids, labels = pair(batch)\n    model(input_ids=ids, labels=labels).loss.backward()", True),
        (SEVERAL.format(name="several"), "seen = several(batch)\n    model(**batch).loss.backward()", False),
        (SEVERAL.format(name="concatenated_inputs"), ASKS_FOR_ROWS.format(name="concatenated_inputs"), False),
        (SEVERAL.format(name="several"), "rows = several(batch)\n    moved = {k: v.cuda() for k, v in rows.items()}\n    model(**moved).loss.backward()", True),
        (SEVERAL.format(name="several"), "self.rows = several(batch)\n    model(**self.moved).loss.backward()", False),
        (STACKED, ASKS_FOR_ROWS.format(name="stacked"), False),
        (MOVED, ASKS_FOR_ROWS.format(name="moved"), False),
    ],
)  # fmt: skip
def test_rows_that_a_step_asks_a_function_for_may_be_more(functions, step, is_grown):
    """Rows that grew in the step itself were named; in a function, wherever it stands, they fitted as those of the loader."""
    names = {GROWN} if is_grown else set()

    assert names_of(functions + STEP.format(step=step)) == names
    assert names_of(STEP.format(step=step), functions) == names


LOOP = """\
import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader
from transformers import AutoModelForCausalLM, AutoTokenizer, default_data_collator
from losses import loss_of
accelerator = Accelerator(mixed_precision="bf16")
model = AutoModelForCausalLM.from_pretrained("meta-llama/Llama-3.2-1B")
tokenizer = AutoTokenizer.from_pretrained("meta-llama/Llama-3.2-1B")
data = data.map(lambda row: tokenizer(row["text"], truncation=True, max_length=512, padding="max_length"))
loader = DataLoader(data, batch_size=2, collate_fn=default_data_collator)
optimizer = torch.optim.AdamW(model.parameters())
model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
for batch in loader:
    loss = loss_of(model, batch)
    accelerator.backward(loss)
    optimizer.step()
    optimizer.zero_grad()
"""
OWN = """\
def loss_of(model, batch):
    logits = model(**batch).logits.float()
    return -(logits.softmax(-1) * (logits / 2).softmax(-1)).sum()
"""


def test_a_loss_that_such_a_function_makes_of_logits_is_read(tmp_path):
    files = {"train.py": LOOP, "losses.py": OWN}
    plan = plan_of(tmp_path, "python train.py", files)

    step = plan.script_facts.step_loss

    assert step is not None and step.forwards == 1


CALLBACK = """\
class Looks(TrainerCallback):
    def on_epoch_end(self, args, state, control, model=None, **rest):
        look(model, self.rows)
"""
EPOCHS = "for epoch in range(3):\n    look(accelerator.unwrap_model(model), rows)\n"


@pytest.mark.parametrize(
    ("asking", "helper", "names"),
    [
        (CALLBACK, "def look(model, rows):\n    return model(**rows).loss\n", {FORWARD_BESIDE}),
        (CALLBACK, "def look(model, rows):\n    return model.module.forward(**rows)\n", {FORWARD_BESIDE}),
        (CALLBACK, "def look(model, rows):\n    return model.generate(**rows)\n", {GENERATES_BESIDE}),
        (CALLBACK, "def look(lm, rows):\n    return lm.generate(**rows)\n", {GENERATES_BESIDE}),
        (CALLBACK, "def look(model, rows):\n    return model.config, len(rows)\n", set()),
        (EPOCHS, "def look(lm, rows):\n    return lm.generate(**rows)\n", {GENERATES_BESIDE}),
        (EPOCHS, "def look(lm, rows):\n    return lm.config, rows.generate\n", set()),
    ],
)  # fmt: skip
def test_what_a_callback_or_a_loop_over_epochs_asks_a_function_for_may_stand_in_another_file(asking, helper, names):  # fmt: skip
    """Functions of the callback's own file were looked into alone, and a loop's own calls: it fitted."""
    assert names_of(asking, helper) == names
    assert names_of(asking + helper) == names
