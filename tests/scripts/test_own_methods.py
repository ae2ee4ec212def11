"""Methods of a script's own classes are given what their calls say, and names what another block or file sets."""

from __future__ import annotations

import pytest
from launch_of_script import plan_of

TRAINS = """
import os
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainingArguments
tokenizer = AutoTokenizer.from_pretrained("model")
def train(longest, rows):
    def cut(row):
        return tokenizer(row["text"], truncation=True, max_length=longest, padding="max_length")
    model = AutoModelForCausalLM.from_pretrained("model", torch_dtype=torch.bfloat16)
    args = TrainingArguments("out", per_device_train_batch_size=rows)
    Trainer(model=model, args=args, train_dataset=data.map(cut)).train()
"""
RUNNER = """
from lib import train
class Runner:
    ROWS = {rows}
    def __init__(self, longest=512):
        self.longest = longest
    def go(self, longest, rows=1):
        train(longest, rows)
    def whole(self):
        self.go(768, rows=2)
    def odd(it, longest, rows=1):
        train(longest, rows)
    @classmethod
    def chosen(cls, longest):
        cls.go(cls(), longest, 2)
    @staticmethod
    def still(longest, rows):
        train(longest, rows)
    @classmethod
    def made(cls, longest):
        train(longest, cls.ROWS)
    def cut_length(self):
        return self.longest + 8
"""


def _plan(tmp_path, script, env=None, **files):
    others = {f"{name}.py": text for name, text in files.items()}
    files = {"lib.py": TRAINS, "t.py": "from lib import train\n" + script, **others}
    return plan_of(tmp_path, "torchrun t.py", files, env)


@pytest.mark.parametrize(
    ("calls", "longest", "rows"),
    [
        ("Runner().go(1024, rows=2)", 1024, 2),
        ("Runner().go(1024)", 1024, 1),
        ("runner = Runner()\nrunner.go(1024, 2)", 1024, 2),
        ("Runner().whole()", 768, 2),
        ("Runner().odd(1024, 2)", 1024, 2),
        ("Runner.go(Runner(), 1024, 2)", 1024, 2),
        ("Runner.go(Runner(), 1024, rows=2)\nRunner().go(1024, 2)", 1024, 2),
        ("Runner.go(Runner(), 1024, 2)\nRunner().go(512, 2)", None, 2),
        ("given = (Runner(), 1024, 2)\nRunner.go(*given)", None, None),
        ("Runner.chosen(1024)", 1024, 2),
        ("Runner.still(1024, 3)", 1024, 3),
        ("Runner.made(1024)", 1024, 4),
        ("runner = Runner(64)\ntrain(runner.cut_length(), 2)", 72, 2),
        # what is called on something that is not seen may be this method too
        ("Runner().go(1024, 2)\nother.go(512, 2)", None, 2),
        ("Runner().go(1024, 2)\nother.go()", 1024, 2),
        ("Runner().go(1024, 2)\nRunner().go(512, 2)", None, 2),
        ("given = (1024, 2)\nRunner().go(*given)", 1024, 2),
        ("Runner().go(*given)", None, None),
    ],
)
def test_a_method_is_given_what_its_calls_say(tmp_path, calls, longest, rows):
    plan = _plan(tmp_path, f"from run import Runner\n{calls}\n", run=RUNNER.format(rows=4))

    assert (plan.seq_len, plan.micro_batch_size) == (longest, rows)


@pytest.mark.parametrize(
    ("above", "below", "longest"),
    [
        ("go(self, longest): train(longest, 2)", "pass", 1024),
        ("go(self, longest): train(longest, 2)", "def go(self, longest): train(8, 2)", None),
        ("go(self, longest): self.last(longest)", "def last(self, longest): train(longest, 2)", None),
    ],
)  # fmt: skip
def test_a_method_that_a_subclass_replaces_is_not_taken_for_its_own(
    tmp_path, above, below, longest
):
    """What is called on `self` may be the subclass's; on an object it is what its class has."""
    script = f"""
class Above:
    def {above}
    def last(self, longest): train(16, 2)
class Below(Above):
    {below}
Above().go(1024) if many else Below().go(1024)
"""
    plan = _plan(tmp_path, script)

    assert plan.seq_len in (longest, None)


def test_a_class_of_a_library_has_callers_that_are_not_seen(tmp_path):
    script = """
from torch.utils.data import Dataset
class Rows(Dataset):
    def go(self, longest): train(longest, 2)
Rows().go(1024)
"""
    assert _plan(tmp_path, script).seq_len is None


@pytest.mark.parametrize(
    ("script", "longest"),
    [
        # the class that there are objects of says it, whatever it stands on says
        ("class A:\n    n = 512\n    def go(self): train(self.n, 2)\nclass B(A):\n    n = 1024\nB().go()", 1024),
        ("class A:\n    n = 512\n    def go(self): train(self.n, 2)\nclass B(A):\n    n = 1024\nA().go()", 512),
        ("class A:\n    n = 512\n    def go(self): train(self.n, 2)\nclass B(A):\n    n = 1024\nA().go(); B().go()", None),
        # names that another block, another file or the surroundings set
        ("n = 512\ndef more():\n    global n\n    n = 1024\nmore()\ntrain(n, 2)", None),
        ("n = None\ndef more():\n    global n\n    n = 1024\nmore()\ntrain(n, 2)", 1024),
        ("def more():\n    global n\n    n = 1024\ndef go():\n    train(n, 2)\nmore()\ngo()", 1024),
        ("n = None\ndef more():\n    global n\n    n = 1024\n    n += 8\nmore()\ntrain(n, 2)", None),
        ("def a():\n    global n\n    n = 1024\ndef b():\n    global n\n    n = 8\na()\nb()\ntrain(n, 2)", None),
        (
            "import argparse\ndef main():\n    global args\n    p = argparse.ArgumentParser()\n"
            "    p.add_argument('--n', type=int, default=1024)\n    args = p.parse_args()\n    go()\n"
            "def go():\n    train(args.n, 2)\nmain()",
            1024,
        ),
        ("n = 512\ndef more():\n    global n\n    print(n)\nmore()\ntrain(n, 2)", 512),
        ("def main():\n    n = 512\n    def more():\n        nonlocal n\n        n = 1024\n    more()\n    train(n, 2)\nmain()", None),
        ("import config\nconfig.N = 1024\ntrain(config.N, 2)", None),
        ("import config\ntrain(config.N, 2)", 512),
        ("try:\n    from config import N\nexcept ImportError:\n    N = 256\ntrain(N, 2)", None),
        ("from config import N\nN = 256\ntrain(N, 2)", 256),
        ("N = 256\nfrom config import N\ntrain(N, 2)", 512),
        # what the script puts into its environment is read there again
        ("import os\nos.environ['N'] = '1024'\ntrain(int(os.getenv('N', '512')), 2)", 1024),
        ("import os\nos.environ.setdefault('N', '1024')\ntrain(int(os.environ['N']), 2)", 1024),
        ("import os\nos.environ.setdefault('PAST', '1024')\ntrain(int(os.environ['PAST']), 2)", 2048),
        ("import os\nos.environ.update(N='1024')\ntrain(int(os.getenv('N', '512')), 2)", 1024),
        ("import os\nos.environ.update(given)\ntrain(int(os.getenv('N', '512')), 2)", None),
        ("import os\nif many:\n    os.environ['N'] = '1024'\ntrain(int(os.getenv('N', '512')), 2)", None),
        ("import os\nfrom dotenv import load_dotenv\nload_dotenv()\ntrain(int(os.getenv('M', '512')), 2)", 640),
        ("import os\nfrom dotenv import load_dotenv\nload_dotenv()\ntrain(int(os.getenv('PAST', '512')), 2)", 2048),
        ("import os\nfrom dotenv import load_dotenv\nload_dotenv(where)\ntrain(int(os.getenv('N', '512')), 2)", None),
        # what decorators, `partial` and copies of settings make of a call
        ("def more(f):\n    def g(*a): return f(*a, n=1024)\n    return g\n@more\ndef go(n=512): train(n, 2)\ngo()", None),
        ("def timed(f):\n    def g(*a, **k): return f(*a, **k)\n    return g\n@timed\ndef go(n=512): train(n, 2)\ngo()", 512),
        ("from functools import partial\ngo = partial(train, rows=2)\ngo(1024)", 1024),
        ("from dataclasses import dataclass, replace\n@dataclass\nclass C:\n    n: int = 512\nc = replace(C(), n=1024)\ntrain(c.n, 2)", 1024),
        ("c = {'n': 512} | {'n': 1024}\ntrain(c['n'], 2)", 1024),
    ],
)  # fmt: skip
def test_a_name_holds_what_was_set_last(tmp_path, script, longest):
    (tmp_path / ".env").write_text("export M='640'\nPAST=64  # kept\n")
    plan = _plan(tmp_path, script + "\n", {"PAST": "2048"}, config="N = 512\n")

    assert plan.seq_len == longest
