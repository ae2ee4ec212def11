"""What a loop of somebody's own evaluates at once is priced as a Trainer's evaluation is, and is open where it may not."""

from __future__ import annotations

import pytest
from launch_of_script import opens, plan_of

from preflight.scripts.loop import WITH_GRAPH

SCRIPT = """\
import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader
from transformers import AutoModelForCausalLM

model = AutoModelForCausalLM.from_pretrained("meta-llama/Llama-3.2-1B")
train_loader = DataLoader(train_rows, batch_size=4, shuffle=True)
accelerator = Accelerator()
optimizer = torch.optim.AdamW(model.parameters())
{loaders}
for batch in train_loader:
    accelerator.backward(model(**batch).loss)
    optimizer.step()
{after}
"""
EVALUATES = "model.eval()\nwith torch.no_grad():\n    model(**next(iter(eval_loader)))"


def read(folder, loaders, after=EVALUATES):
    files = {"train.py": SCRIPT.format(loaders=loaders, after=after)}
    return plan_of(folder, "accelerate launch --num_processes 1 train.py", files)


@pytest.mark.parametrize(
    ("loaders", "after", "rows"),
    [
        ("eval_loader = DataLoader(eval_rows, batch_size=32)", EVALUATES, 32),
        ("eval_loader = DataLoader(eval_rows)", EVALUATES, 1),
        ("eval_loader = DataLoader(eval_rows, batch_size=32)", "", None),
        ("eval_loader = DataLoader(eval_rows, batch_size=32)", "eval('1 + 1')", None),
        ("", EVALUATES, None),
        ("a = DataLoader(rows, batch_size=2)\nb = DataLoader(rows, batch_size=16)", EVALUATES, 16),
    ],
)
def test_the_rows_are_the_most_that_a_loader_beside_training_gives(tmp_path, loaders, after, rows):
    plan = read(tmp_path, loaders, after)

    assert plan.micro_batch_size == 4
    assert plan.eval_micro_batch_size == rows
    assert "eval_micro_batch_size" not in opens(plan)


@pytest.mark.parametrize(
    ("loaders", "after"),
    [
        ("eval_loader = DataLoader(eval_rows, batch_size=pick())", EVALUATES),
        ("if ready():\n    eval_loader = DataLoader(eval_rows, batch_size=32)", EVALUATES),
        ("eval_loader = DataLoader(eval_rows, batch_size=32)", "if ready():\n    model.eval()"),
        ("other_loader = DataLoader(rows, batch_size=32)", "with torch.no_grad():\n    model(row)"),
    ],
)
def test_what_only_running_tells_is_open(tmp_path, loaders, after):
    assert "eval_micro_batch_size" in opens(read(tmp_path, loaders, after))


@pytest.mark.parametrize(
    ("loaders", "after", "may_be"),
    [
        ("eval_loader = DataLoader(eval_rows, batch_size=32)", "if ready():\n    model.eval()", (32, None)),
        ("if ready():\n    eval_loader = DataLoader(eval_rows, batch_size=32)", EVALUATES, (32, None)),
        ("eval_loader = DataLoader(eval_rows, batch_size=pick())", "if ready():\n    model.eval()", (None, 64)),
    ],
)  # fmt: skip
def test_one_that_may_be_has_the_rows_of_its_loader_at_most(tmp_path, loaders, after, may_be):
    plan = read(tmp_path, loaders, after)
    others = plan.origins["eval_micro_batch_size"].may_be

    assert {plan.eval_micro_batch_size, *others} == set(may_be)


def test_what_is_evaluated_is_open_where_nothing_tells_which_loader_is_that_of_training(tmp_path):
    loaders = "more = DataLoader(others, batch_size=32)"
    text = SCRIPT.format(loaders=loaders, after=EVALUATES).replace("train_", "")
    text = text.replace(", shuffle=True", "")
    hidden = text.replace("for batch in loader:", "while True:\n    batch = next(rounds)")
    plans = [
        plan_of(tmp_path, "accelerate launch --num_processes 1 t.py", {"t.py": each})
        for each in (hidden, text)
    ]

    assert "eval_micro_batch_size" in opens(plans[0])
    assert plans[1].eval_micro_batch_size == 32  # the loop over the other takes gradients


@pytest.mark.parametrize(
    ("accelerator", "rows"),
    [
        ("Accelerator(split_batches=True)", None),
        ("Accelerator(dataloader_config=DataLoaderConfiguration(split_batches=True))", None),
        ("Accelerator(split_batches=False)", 4),
        ("Accelerator()", 4),
    ],
)
def test_rows_that_accelerate_divides_are_not_those_of_a_rank(tmp_path, accelerator, rows):
    text = SCRIPT.format(loaders="", after="").replace("Accelerator()", accelerator)
    plan = plan_of(tmp_path, "accelerate launch --num_processes 2 t.py", {"t.py": text})

    assert plan.micro_batch_size == rows


@pytest.mark.parametrize(
    ("loaders", "after", "is_named"),
    [
        ("eval_loader = DataLoader(eval_rows, batch_size=32)", "", True),
        ("eval_loader = DataLoader(eval_rows, batch_size=rows_of(eval_rows))", "", True),
        ("eval_loader = DataLoader(eval_rows, batch_size=4)", "", False),
        ("eval_loader = DataLoader(eval_rows, batch_size=32)", EVALUATES, False),
        ("", "", False),
        ("", "model.eval()\nfor batch in train_loader:\n    print(model(**batch).loss)", True),
        ("", "model.eval()\nwith torch.no_grad():\n    print(model(**next(iter(train_loader))).loss)", False),
    ],
)  # fmt: skip
def test_an_evaluation_of_more_rows_that_may_keep_its_graph_is_named(tmp_path, loaders, after, is_named):  # fmt: skip
    plan = read(tmp_path, loaders, after)

    assert (WITH_GRAPH in {notice.unpriced for notice in plan.notices}) is is_named


ASKS = "print(model(**next(iter(eval_loader))).loss)"
TWO_PHASES = """\
for is_training in (True, False):
    if is_training:
        model.train()
    else:
        model.eval()
    with torch.set_grad_enabled(is_training):
        print(model(**next(iter(eval_loader))).loss)
"""


@pytest.mark.parametrize(
    ("after", "is_named"),
    [
        (f"model.eval()\nwith torch.set_grad_enabled(True):\n    {ASKS}", True),
        (f"model.eval()\nwith torch.set_grad_enabled(epoch > 1):\n    {ASKS}", True),
        (f"model.eval()\nwith torch.inference_mode(False):\n    {ASKS}", True),
        (f"model.eval()\nwith torch.set_grad_enabled(False):\n    {ASKS}", False),
        (f"model.eval()\nwith torch.no_grad() if epoch else nullcontext():\n    {ASKS}", True),
        (f"model.eval()\nwith torch.no_grad():\n    with torch.enable_grad():\n        {ASKS}", True),
        (f"model.eval()\nwith torch.no_grad():\n    with accelerator.autocast():\n        {ASKS}", False),
        (f"model.eval()\ntorch.set_grad_enabled(False)\n{ASKS}\ntorch.set_grad_enabled(True)", False),
        (f"model.eval()\ntorch.set_grad_enabled(epoch > 1)\n{ASKS}", True),
        (f"aside = torch.no_grad()\nmodel.eval()\nwith aside:\n    {ASKS}", False),
        (f"with torch.no_grad():\n    norm = sum(p.norm() for p in model.parameters())\nmodel.eval()\n{ASKS}", True),
        (f"def judge():\n    model.eval()\n    {ASKS}\nwith torch.no_grad():\n    judge()", False),
        (f"@torch.no_grad()\ndef judge():\n    model.eval()\n    {ASKS}\njudge()", False),
        (TWO_PHASES, False),
    ],
)  # fmt: skip
def test_an_evaluation_that_may_have_a_graph_is_named_wherever_else_there_is_none(tmp_path, after, is_named):  # fmt: skip
    """Any mention of no_grad or set_grad_enabled in a file was taken for one around every evaluation: it fitted."""
    plan = read(tmp_path, "eval_loader = DataLoader(eval_rows, batch_size=32)", after)

    assert (WITH_GRAPH in {notice.unpriced for notice in plan.notices}) is is_named
