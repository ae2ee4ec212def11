"""Values of a script that stand in a class, a file or a module of its own, in the ways that scripts write them down."""

from __future__ import annotations

import pytest
from launch_of_script import TRAINS, plan_of

SCRIPT = (
    """\
{head}
"""
    + TRAINS
    + """
{made}
run({values})
"""
)
YAML = "name: gpt2\nrows: 4\ntokens: 512\n"
READ = "settings = yaml.safe_load(open({}))"
KEYS = "settings['name'], settings['rows'], settings['tokens']"
DOTTED = "settings.name, settings.rows, settings.tokens"
FIELDS = "    name: str = 'gpt2'\n    rows: int = 4\n    tokens: int = 512\n"
INIT = "class Settings:\n    def __init__(self, rows=1):\n        self.name = 'gpt2'\n        self.rows = rows\n        self.tokens = 128 * rows\n"
TAKES = "@dataclass\nclass Settings:\n    name: str\n    rows: int\n    tokens: int = 64\n"
OF_FILE = "from dataclasses import dataclass\nimport os, yaml\nfrom pathlib import Path"


def read(tmp_path, head, made, values):
    script = SCRIPT.format(head=head, made=made, values=values)
    files = {"src/train.py": script, "src/settings.yaml": YAML, "conf/settings.yaml": YAML}
    files["src/constants.py"] = "NAME = 'gpt2'\nROWS = 4\nTOKENS = 512\n"
    plan = plan_of(tmp_path, "torchrun --nproc-per-node 2 src/train.py", files)
    return plan.model, plan.micro_batch_size, plan.seq_len


@pytest.mark.parametrize(
    "path",
    [
        "os.path.join(os.path.dirname(__file__), 'settings.yaml')",
        "os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), 'conf', 'settings.yaml')",
        "Path(__file__).parent / 'settings.yaml'",
        "Path(__file__).resolve().parents[1] / 'conf' / 'settings.yaml'",
        "Path(__file__).absolute().parent.joinpath('settings.yaml')",
        "str(Path('conf') / 'settings.yaml')",
    ],
)
def test_a_file_beside_the_script_is_found(path, tmp_path):
    assert read(tmp_path, OF_FILE, READ.format(path), KEYS) == ("gpt2", 4, 512)


@pytest.mark.parametrize(
    ("head", "made", "values"),
    [
        ("", f"{INIT}settings = Settings(rows=4)", DOTTED),
        ("from constants import *", "", "NAME, ROWS, TOKENS"),
        (
            OF_FILE,
            READ.format("'conf/settings.yaml'"),
            "settings.get('name'), settings.get('rows', 1), settings.get('missing', 512)",
        ),
        ("from typing import NamedTuple", f"class S(NamedTuple):\n{FIELDS}settings = S()", DOTTED),
        (
            "from pydantic import BaseModel, Field",
            f"class S(BaseModel):\n{FIELDS.replace('= 4', '= Field(4, ge=1)')}settings = S()",
            DOTTED,
        ),
        (
            OF_FILE,
            f"{TAKES}settings = Settings(**yaml.safe_load(open('conf/settings.yaml')))",
            DOTTED,
        ),
    ],
)
def test_values_of_classes_modules_and_mappings_are_read(head, made, values, tmp_path):
    assert read(tmp_path, head, made, values) == ("gpt2", 4, 512)


@pytest.mark.parametrize(
    "more",
    [
        "        if rows > 2:\n            self.rows = 8\n",
        "    def grow(self):\n        self.rows += 1\n",
        "        for name in os.environ:\n            setattr(self, name, 1)\n",
    ],
)
def test_what_an_objects_own_methods_may_change_is_not_known(more, tmp_path):
    made = f"{INIT}{more}settings = Settings(rows=4)"

    assert read(tmp_path, "import os", made, DOTTED)[1] is None


@pytest.mark.parametrize(
    "made",
    [
        f"{TAKES}settings = Settings(**yaml.safe_load(open(os.environ['WHERE'])))",
        "from pydantic import BaseModel\nclass S(BaseModel):\n    name: str = 'gpt2'\n    rows: int = 4\n    tokens: int = 512\n"
        "    def model_post_init(self, context):\n        self.rows = 8\nsettings = S()",
        "class Base:\n    def __init__(self):\n        self.rows = 8\nclass S(Base):\n    rows = 4\nsettings = S()\n"
        "settings.name, settings.tokens = 'gpt2', 512",
    ],
)
def test_what_only_running_tells_is_not_known(made, tmp_path):
    assert read(tmp_path, OF_FILE, made, DOTTED)[1] is None


@pytest.mark.parametrize(
    "values", [KEYS, "settings['name'], settings.get('rows'), settings['tokens']"]
)
@pytest.mark.parametrize(
    ("more", "rows"),
    [
        ("settings['rows'] = 8", 8),
        ("def changed(given):\n    given['rows'] = 8\nchanged(settings)", None),
        ("other = settings\nother['rows'] = 8", None),
    ],
)
def test_a_key_that_is_set_under_another_name_is_not_known(more, rows, values, tmp_path):
    made = "\n".join((READ.format("'conf/settings.yaml'"), more))

    assert read(tmp_path, OF_FILE, made, values) == ("gpt2", rows, 512)
