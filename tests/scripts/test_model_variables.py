"""A variable that holds a model is read as one, whatever it is called; one that holds something else too is left alone."""

from __future__ import annotations

import ast

import pytest
from launch_of_script import plan_of

from preflight.scripts.python.trees import tree_of

LOOP = """\
import torch
from accelerate import Accelerator
from datasets import load_dataset
from torch.utils.data import DataLoader
from transformers import AutoModelForCausalLM

accelerator = Accelerator(mixed_precision="bf16")
loader = DataLoader(load_dataset("a/b")["train"], batch_size=2)
model = AutoModelForCausalLM.from_pretrained("Qwen/Qwen2.5-0.5B")
HABIT
optimizer = torch.optim.AdamW(model.parameters())
model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
for batch in loader:
    loss = STEP
    accelerator.backward(loss)
    optimizer.step()
"""
PLAIN = "model(**batch).loss"
HABITS = {
    "a part": ("model.lm_head = torch.nn.Linear(896, 500_000)", PLAIN),
    "two passes": ("", "model(**batch).loss + model(**batch).loss"),
    "a loss": ("", "(model(**batch)[1] ** 2).mean()"),
    "longer rows": ("", "model(input_ids=torch.cat([batch['a'], batch['b']])).loss"),
}


def called(text: str, name: str) -> str:
    """Return a script whose model has another name."""
    return text.replace("ForCausalLM", "\0").replace("model", name).replace("\0", "ForCausalLM")


def unpriced(folder, text):
    notices = plan_of(
        folder, "accelerate launch --num_processes 2 train.py", {"train.py": text}
    ).notices
    return {notice.unpriced for notice in notices if notice.unpriced}


@pytest.mark.parametrize("habit", HABITS)
def test_what_a_script_does_to_its_model_is_seen_by_any_name(tmp_path, habit):
    before, step = HABITS[habit]
    text = LOOP.replace("HABIT", before).replace("STEP", step)
    named = unpriced(tmp_path, text)

    assert named
    assert unpriced(tmp_path, called(text, "llm")) == named


@pytest.mark.parametrize("step", [step for _, step in HABITS.values() if step != PLAIN])
def test_what_a_function_does_to_a_model_that_it_is_given_is_seen_by_any_name(tmp_path, step):
    start, loop = LOOP.replace("HABIT", "").split("for batch in loader:\n")
    named = [
        unpriced(
            tmp_path,
            f"{start}run(model)\n".replace(
                "import torch\n",
                called("import torch\ndef run(model):\n  for batch in loader:\n", name)
                + called(loop.replace("STEP", step), name),
            ),
        )
        for name in ("model", "lm")
    ]

    assert named[0]
    assert named[1] == named[0]


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("net = AutoModel.from_pretrained('x')\nnet = net.to('cuda')", "net_model"),
        ("lm, words = load_model_and_tokenizer('x')\nlm(words)", "lm_model"),
        (
            "class A:\n    def f(self):\n        self.lm = AutoModelForCausalLM.from_pretrained('x')",
            "self.lm_model",
        ),
        ("def step(lm, b):\n    lm.train()\n    return lm(**b)", "lm_model"),
        ("net = AutoModel.from_pretrained('x')\nstep(net=net)", "step(net=net_model)"),
        (
            "def step(net): ...\nnet = AutoModel.from_pretrained('x')\nstep(net=net)",
            "step(net_model=net_model)",
        ),
        ("run = model\none, two = run(x), run(y)", "(run_model(x), run_model(y))"),
        ("m = model.module if many else model\nm.generate(x)", "m_model.generate(x)"),
        ("m = accelerator.unwrap_model(model)\nm.generate(x)", "m_model.generate(x)"),
        ("m = getattr(model, 'module', model)\nm(x)", "m_model(x)"),
    ],
)
def test_what_surely_holds_a_model_is_called_one(text, read):
    assert read in ast.unparse(tree_of(text))


@pytest.mark.parametrize(
    "text",
    [
        "words = AutoTokenizer.from_pretrained('x')\nwords('a')",
        "net = AutoModel.from_pretrained('x')\nnet = load_dataset('y')",
        "def main(net='x'):\n    net = AutoModel.from_pretrained(net)",
        "def main(net: str):\n    net = AutoModel.from_pretrained(net)",
        "net = AutoModel.from_pretrained('x')\nfor net in range(3):\n    print(net)",
        "path = get_model_path('x')\npath.exists()",
        "name = model\nAutoModel.from_pretrained(name)",
        "run = model\nrun(x)\nrun = other",
        "run = model if one else other\nrun(x)",
        "class A:\n    name: str = 'x'\nname = model\nname(x)",
        "class A:\n    def train(self, rows):\n        return rows('a')",
    ],
)
def test_what_may_hold_something_else_keeps_its_name(text):
    assert ast.unparse(tree_of(text)) == ast.unparse(ast.parse(text))
