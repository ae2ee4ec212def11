"""Loops whose model is not told to train, or whose evaluation keeps a graph: what torch and transformers make of them."""

from __future__ import annotations

import pytest
import torch
import transformers
from launch_of_script import opens, plan_of
from tiny_llama import TINY_LLAMA

LOOP = """\
import torch
from torch.utils.data import DataLoader
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("Qwen/Qwen3-1.7B", dtype=torch.bfloat16).cuda()
model.gradient_checkpointing_enable()
tokenizer = AutoTokenizer.from_pretrained("Qwen/Qwen3-1.7B")


def collate(rows):
    return tokenizer(rows, truncation=True, padding="max_length", max_length=2048, return_tensors="pt")


adam = torch.optim.AdamW(model.parameters(), lr=1e-5)
loader = DataLoader(rows, batch_size=2, collate_fn=collate)
SETS
for batch in loader:
    model(**batch, labels=batch["input_ids"]).loss.backward()
    adam.step()
    adam.zero_grad()
EVALUATES
"""
EVALUATES = """\
eval_loader = DataLoader(others, batch_size=ROWS, collate_fn=collate)
model.eval()
HEAD
    for batch in eval_loader:
        total = model(**batch, labels=batch["input_ids"]).loss.item()
"""


@pytest.fixture
def plan(tmp_path):
    def read(sets="model.train()", evaluates=""):
        text = LOOP.replace("SETS", sets).replace("EVALUATES", evaluates)
        return plan_of(tmp_path, "python train.py", {"train.py": text})

    return read


def test_layers_of_a_model_in_evaluation_are_not_checkpointed(tmp_path):
    """What transformers does: `from_pretrained` leaves a model in evaluation, where its layers are called as they are."""
    config = transformers.LlamaConfig(**{k: v for k, v in TINY_LLAMA.items() if k != "model_type"})
    transformers.LlamaForCausalLM(config).save_pretrained(tmp_path)
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    model.gradient_checkpointing_enable()
    calls = []
    model.model.layers[0].mlp.register_forward_pre_hook(lambda *given: calls.append(given))
    ids = torch.arange(8)[None]
    counted = []
    for sets in (lambda: None, model.train):
        sets()
        calls.clear()
        model(input_ids=ids, labels=ids).loss.backward()
        counted.append(len(calls))

    assert counted == [1, 2]


def test_a_loop_that_never_trains_its_model_checkpoints_nothing(plan):
    assert plan().activation_checkpointing == "full"
    assert plan(sets="").activation_checkpointing == "none"


@pytest.mark.parametrize("sets", ["for part in parts:\n    part.train()", "model.training = True"])
def test_whatever_may_set_the_mode_leaves_checkpointing_as_it_is_said(plan, sets):
    assert plan(sets=sets).activation_checkpointing == "full"


@pytest.mark.parametrize(
    ("head", "rows", "is_named"),
    [("if True:", 8, True), ("with torch.no_grad():", 8, False), ("if True:", 2, True)],
    ids=["graph", "no graph", "graph of no more rows"],
)
def test_evaluation_without_a_word_against_graphs_keeps_one(plan, head, rows, is_named):
    """`model.eval()` was taken for one: eight rows with their activations counted as eight rows without.

    Of no more rows than training has, too: no layer is checkpointed there, and the graph of the batch before is alive.
    """
    evaluates = EVALUATES.replace("ROWS", str(rows)).replace("HEAD", head)
    named = [*plan(evaluates=evaluates).script_facts.uncounted]

    assert ("what an evaluation with a graph keeps" in named) is is_named


def test_the_other_loader_is_the_one_of_training(plan):
    evaluates = EVALUATES.replace("ROWS", "8").replace("HEAD", "with torch.no_grad():")

    assert plan(evaluates=evaluates).micro_batch_size == 2


@pytest.mark.parametrize(
    ("call", "is_open"),
    [
        ("activation_checkpointing_enable()", False),
        ("gradient_checkpointing_enable(every_n_layers=2)", True),
        ("gradient_checkpointing_enable({'use_reentrant': False}, 2)", True),
    ],
)
def test_calls_of_newer_releases_checkpoint_too(tmp_path, call, is_open):
    """With `every_n_layers` most layers keep their activations: what the arguments say of it is known, of a call it is open."""
    text = LOOP.replace("gradient_checkpointing_enable()", call).replace("SETS", "model.train()")
    plan = plan_of(tmp_path, "python train.py", {"train.py": text.replace("EVALUATES", "")})

    assert ("activation_checkpointing" in opens(plan)) is is_open
    assert is_open or plan.activation_checkpointing == "full"


ROUNDS = {
    "model.eval()": True,
    "evaluate(model)": True,
    "model.eval()\n    model.train()": False,
    "evaluate(model)\n    set_back(model)": False,
    "reference.eval()": False,
    "print(eval('1 + 1'))": False,
}


@pytest.mark.parametrize(("end", "is_open"), ROUNDS.items(), ids=ROUNDS)
def test_a_round_that_ends_in_evaluation_leaves_the_next_without_checkpointing(
    tmp_path, end, is_open
):
    """`model.train()` stood in front of the rounds: the second one kept every activation."""
    functions = (
        "def evaluate(part):\n    part.eval()\n\n\ndef set_back(part):\n    part.train()\n\n\n"
    )
    head, steps = LOOP.replace("EVALUATES", "").split("for batch in loader:")
    body = "    for batch in loader:" + steps.rstrip().replace("\n", "\n    ")
    text = f"{head.replace('SETS', 'model.train()')}\n{functions}for epoch in range(3):\n{body}\n    {end}\n"
    plan = plan_of(tmp_path, "python train.py", {"train.py": text})

    assert plan.activation_checkpointing == "full"
    assert plan.origins["activation_checkpointing"].may_be == (("none",) if is_open else ())
