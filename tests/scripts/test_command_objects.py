"""What a command line says reaches methods that fire calls, objects in the fields of a dataclass, and what a class makes itself."""

from __future__ import annotations

import pytest
from launch_of_script import TRAINS, plan_of

SCRIPT = (
    """\
import fire, draccus, simple_parsing, tyro, yaml
from dataclasses import dataclass, field
from typing import Optional
"""
    + TRAINS
    + """
@dataclass
class Settings:
    name: str = "bert-base-uncased"
    rows: int = 1
    tokens: int = 64

    @classmethod
    def from_file(cls, path):
        with open(path) as file:
            return cls(**yaml.safe_load(file))

    @classmethod
    def usual(cls):
        return cls(name="gpt2", rows=4, tokens=512)

class App:
    def train(self, name="bert-base-uncased", rows=1, tokens=64):
        run(name, rows, tokens)

def train(name="bert-base-uncased", rows=1, tokens=64):
    run(name, rows, tokens)

{held}
{made}
"""
)
HELD = """\
@dataclass
class All:
    model: {kind} = field(default_factory={default})
    seed: int = 0
"""
WITHIN = """\
@dataclass
class Middle:
    inner: Settings = field(default_factory=Settings)
"""
FLAGS = "--name gpt2 --rows 4 --tokens 512"
OF_MODEL = FLAGS.replace("--", "--model.")
RUN = "run(c.name, c.rows, c.tokens)"


def read(tmp_path, made, words, held=""):
    text = SCRIPT.replace("{held}", held).replace("{made}", made)
    files = {"train.py": text, "settings.yaml": "name: gpt2\nrows: 4\ntokens: 512\n"}
    plan = plan_of(tmp_path, f"python train.py {words}", files)
    return plan.model, plan.micro_batch_size, plan.seq_len


@pytest.mark.parametrize(
    ("made", "words"),
    [
        ("fire.Fire(App)", f"train {FLAGS}"),
        ("fire.Fire(App())", f"train {FLAGS}"),
        ('fire.Fire({"train": train})', f"train {FLAGS}"),
        ("fire.Fire([train])", f"train {FLAGS}"),
        ('fire.Fire(train, name="train")', FLAGS),
        ("fire.Fire(component=train)", FLAGS),
        ("app = App()\nfire.Fire(app)", f"train {FLAGS}"),
        ("app = App()\nfire.Fire(component=app)", f"train {FLAGS}"),
        ("chosen = train\nfire.Fire(chosen)", FLAGS),
    ],
)
def test_what_fire_is_given_takes_the_command_line(made, words, tmp_path):
    assert read(tmp_path, made, words) == ("gpt2", 4, 512)


@pytest.mark.parametrize(
    ("parse", "kind", "default", "words"),
    [
        ("tyro.cli(All)", "Settings", "Settings", OF_MODEL),
        ("tyro.cli(All)", "Optional[Settings]", "Settings", OF_MODEL),
        ("tyro.cli(All)", "Settings", "lambda: Settings(rows=4)", OF_MODEL.replace("--model.rows 4", "")),
        ("draccus.parse(All)", "Settings", "Settings", OF_MODEL.replace(" 4", "=4").replace(".rows ", ".rows=")),
        ("simple_parsing.parse(All)", "Settings", "Settings", FLAGS),
    ],
)  # fmt: skip
def test_an_object_in_a_field_has_flags_of_its_own(parse, kind, default, words, tmp_path):
    libraries = ("draccus", "simple_parsing", "tyro")
    one = parse.partition(".")[0]
    held = HELD.format(kind=kind, default=default)
    text = SCRIPT.replace("{held}", held).replace("{made}", f"c = {parse}.model\n{RUN}")
    for each in libraries:
        text = text if each == one else text.replace(f" {each},", "").replace(f", {each}", "")
    plan = plan_of(tmp_path, f"python train.py {words}", {"train.py": text})

    assert (plan.model, plan.micro_batch_size, plan.seq_len) == ("gpt2", 4, 512)


def test_so_has_one_in_a_field_of_that(tmp_path):
    held = f"{WITHIN}{HELD.format(kind='Middle', default='Middle')}"
    words = FLAGS.replace("--", "--model.inner.")

    assert read(tmp_path, f"c = tyro.cli(All).model.inner\n{RUN}", words, held) == ("gpt2", 4, 512)


@pytest.mark.parametrize("made", ['Settings.from_file("settings.yaml")', "Settings.usual()"])
@pytest.mark.parametrize(
    ("held", "is_known"),
    [("", True), ("@dataclass\nclass More(Settings):\n    seed: int = 0", False)],
)
def test_what_a_class_makes_of_itself_is_an_object_of_it(made, held, is_known, tmp_path):
    expected = ("gpt2", 4, 512) if is_known else (None, None, None)

    assert read(tmp_path, f"c = {made}\n{RUN}", "", held) == expected
