"""The counts of frameworks' own repositories are drawn and counted as they are said to be, and the page shows them."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.real_launchers.record import PAGE, shown

from .extraction import Launch
from .frameworks import AT_MOST, FRAMEWORKS, MARK, counts, drawn, recorded, table

RECORD = recorded()
OUTCOMES = {"fits", "tight", "does_not_fit", "unknown", "exit 2"}
TRAINS = """\
from transformers import Trainer, TrainingArguments

def main():
    trainer = Trainer(None, TrainingArguments("out"))
    trainer.train()

if __name__ == "__main__":
    main()
"""


def test_the_page_shows_the_record():
    assert shown(MARK, PAGE.read_text()) == table(RECORD)


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_every_framework_has_counts_of_a_commit(name):
    one = RECORD[name]
    checked = sum(one["outcomes"].values())

    assert re.fullmatch(r"[0-9a-f]{40}", one["commit"])
    assert checked == min(AT_MOST, one["shown"]) and set(one["outcomes"]) <= OUTCOMES
    assert max(one["unknown_for"].values(), default=0) <= one["outcomes"].get("unknown", 0)


def launch(where: str, word: str) -> Launch:
    return Launch("a+b", where, ("python", word), {}, Path())


def test_a_line_that_shows_many_launches_is_drawn_once_while_there_are_others():
    loop = [launch("loop.sh:3", str(index)) for index in range(100)]
    others = [launch(f"README.md:{index}", "x") for index in range(5)]

    assert {one.where for one in drawn([*loop, *others], 6)} == {
        one.where for one in (*loop, *others)
    }
    assert len(drawn([*loop, *others], 20)) == 20
    assert drawn(others, 50) == others and drawn([], 50) == []
    assert [one.where for one in drawn(others, 2)] == ["README.md:0", "README.md:2"]


def test_scripts_that_train_follow_what_documents_show(tmp_path):
    clone = tmp_path / "owner+name"
    (clone / "tests").mkdir(parents=True)
    (clone / "README.md").write_text("```\npython train.py\npython own.py --help\n```\n")
    (clone / "train.py").write_text(TRAINS)
    (clone / "tests" / "whole.py").write_text(TRAINS)
    (clone / "tests" / "part.py").write_text(TRAINS.partition("if")[0])
    for command in (("init", "-q"), ("add", "."), ("commit", "-qm", "all")):
        git = ("git", "-C", str(clone), "-c", "user.name=a", "-c", "user.email=a@b.c")
        subprocess.run((*git, *command), check=True)

    one = counts(clone)

    assert one["shown"] == 2 and sum(one["outcomes"].values()) == 2
    assert set(one["unknown_for"]) <= {"model", "seq_len", "micro_batch_size"}
