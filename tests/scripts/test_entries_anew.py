"""A loop that puts other values under some keys of a dict leaves all others as they are, with the flags that say them."""

from __future__ import annotations

import pytest
from launch_of_script import TRAINS, plan_of

SCRIPT = """\
from dataclasses import asdict, dataclass
from transformers import HfArgumentParser
from training import run

NOTHING = (-1, "none")

@dataclass
class Settings:
    name: str
    rows: int = 4
    tokens: int = 300
    steps: int = -1

def main():
    (settings,) = HfArgumentParser(Settings).parse_args_into_dataclasses()
    settings = asdict(settings)
{loop}
    run(settings["name"], settings["rows"], settings["tokens"])

main()
"""
LOOP = """\
    for key, value in {over}:
        if {test}:
            {does}
"""


def read(tmp_path, over="settings.items()", test="value in NOTHING", does="settings[key] = None", flags=""):  # fmt: skip
    loop = LOOP.format(over=over, test=test, does=does)
    files = {"train.py": SCRIPT.format(loop=loop), "training.py": TRAINS}
    return plan_of(tmp_path, f"python train.py --name gpt2 {flags}", files)


@pytest.mark.parametrize("over", ["settings.items()", "list(settings.items())"])
@pytest.mark.parametrize("test", ["value in NOTHING", "value == -1", "value is None"])
def test_values_that_no_condition_holds_of_stay(tmp_path, over, test):
    plan = read(tmp_path, over, test, flags="--tokens 500")

    assert (plan.model, plan.micro_batch_size, plan.seq_len) == ("gpt2", 4, 500)
    assert plan.origins["seq_len"].where == "--tokens"


def test_a_value_that_it_holds_of_is_the_other(tmp_path):
    plan = read(tmp_path, test="value == 4", does="settings[key] = 7")

    assert (plan.micro_batch_size, plan.seq_len) == (7, 300)


@pytest.mark.parametrize(
    ("test", "does"),
    [
        ("asked(value)", "settings[key] = None"),
        ("value in NOTHING", "settings[key] = other(value)"),
        ("value in NOTHING", "settings[key.lower()] = None"),
        ("value in NOTHING", "settings[key] = None; settings['rows'] = ask()"),
    ],
)
def test_what_only_running_tells_is_open(tmp_path, test, does):
    assert read(tmp_path, test=test, does=does).micro_batch_size is None
