"""Conditions that depend on conditions are worked out once, however many of them stand behind one another."""

from __future__ import annotations

import pytest

from preflight.launch import LaunchCommand
from preflight.scripts.python.reader import ScriptReader
from preflight.scripts.python.scope import UNKNOWN
from preflight.scripts.python.values import MAX_STEPS

HEAD = """\
import argparse, sys
parser = argparse.ArgumentParser()
parser.add_argument("--kind", default="a")
parser.add_argument("--rank", type=int, default=16)
def main():
    if len(sys.argv) == 2 and sys.argv[1].endswith(".json"):
        args, more = read_file(sys.argv[1]), True
    else:
        args, more = parser.parse_args(), False
    kind = args.kind
"""
BRANCH = """\
    if kind == "{0}" and args.kind != "{0}":
        kind = "one {0}"
    elif kind in ("x{0}", "y{0}"):
        kind = "other {0}" if more else kind
"""
END = '    LoraConfig(r=args.rank, lora_alpha=4 if kind == "a" else 8)\nmain()\n'


def read(num_branches: int, asked: str = "args.kind") -> ScriptReader:
    text = (
        HEAD.replace("kind = args.kind", f"kind = {asked}")
        + "".join(BRANCH.format(number) for number in range(num_branches))
        + END
    )
    reader = ScriptReader(LaunchCommand(("python", "train.py")), "train.py", text)
    reader.read(lambda names: None)
    return reader


@pytest.mark.parametrize("num_branches", [1, 8])
def test_what_many_conditions_decide_is_known(num_branches):
    reader = read(num_branches)
    (call,) = reader.named("LoraConfig")
    values, _ = reader.keywords(call)

    assert (values["r"].value, values["lora_alpha"].value) == (16, 4)


def test_twice_as_many_conditions_take_little_more_than_twice_as_long():
    few, many = (read(number, "input()").evaluator.num_steps for number in (10, 20))

    assert many < 4 * few < 4_000


LOOP = """\
for row in rows:
    total = total + len(row)
    total = total + 1 if row else total
    part = total - len(row)
    total = part + total
LoraConfig(r=total, lora_alpha=16)
"""


def test_a_name_that_a_loop_sets_by_itself_is_not_followed_round_and_round():
    reader = ScriptReader(LaunchCommand(("python", "train.py")), "train.py", "total = 0\n" + LOOP)
    reader.read(lambda names: None)
    (call,) = reader.named("LoraConfig")

    assert reader.keywords(call)[0]["lora_alpha"].value == 16
    assert reader.keywords(call)[0]["r"].value is UNKNOWN
    assert reader.evaluator.num_steps < 200


TANGLED = """\
    for row in rows:
        if row.kind == kind and kind.startswith("one"):
            kind = row.kind + kind
        if kind.endswith("two") or len(kind) > len(row.kind):
            kind = kind[:-1]
        if kind in ("x", "y") and kind != row.other:
            kind = row.other if kind else kind
"""


@pytest.mark.parametrize("num_loops", [1, 8])
def test_names_and_conditions_that_depend_on_each_other_do_not_use_a_script_up(num_loops):
    text = HEAD.replace("kind = args.kind", "kind = input()") + TANGLED * num_loops + END
    reader = ScriptReader(LaunchCommand(("python", "train.py")), "train.py", text)
    reader.read(lambda names: None)
    (call,) = reader.named("LoraConfig")

    assert reader.keywords(call)[0]["r"].value == 16
    assert reader.evaluator.num_steps < MAX_STEPS // 2
