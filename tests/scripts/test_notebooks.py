"""A notebook is read as the script that its cells make: the same plan, with places that name cell and line."""

from __future__ import annotations

import ast
import json
from dataclasses import replace
from pathlib import Path

import pytest
from in_process import preflight

from preflight.launch import LaunchCommand
from preflight.notebooks import LINES_OF_CELL, place_of, source_of
from preflight.plugins import load_plugins
from preflight.rewriting import read_launch

ROOT = Path(__file__).parent.parent.parent
SCRIPTS = [
    *sorted((ROOT / "examples").glob("*/train.py")),
    *sorted((ROOT / "tests" / "configs" / "scripts").glob("*.py"))[:8],
    ROOT / "tests" / "configs" / "train_hf.py",
]
MAGICS = "%pip install -q trl\n!nvidia-smi\nfiles = !ls\nif True:\n    !echo yes\ntrl?\n"


def cells_of(text: str) -> list[str]:
    """Return a script's top-level statements, each a cell of its own, as people split them."""
    lines = text.splitlines(keepends=True)
    starts = [
        min([node.lineno, *(one.lineno for one in getattr(node, "decorator_list", ()))])
        for node in ast.parse(text).body
    ]
    ends = [*(start - 1 for start in starts[1:]), len(lines)]
    return ["".join(lines[start - 1 : end]) for start, end in zip(starts, ends, strict=True)]


def notebook(*cells: str, as_lines: bool = True) -> str:
    """Write cells as nbformat 4 does, prose before the first; a source is a list of lines, or one text."""
    code = [
        {
            "cell_type": "code",
            "execution_count": None,
            "metadata": {},
            "outputs": [],
            "source": cell.splitlines(keepends=True) if as_lines else cell,
        }
        for cell in cells
    ]
    prose = {"cell_type": "markdown", "metadata": {}, "source": ["import this is prose\n"]}
    return json.dumps({"cells": [prose, *code], "metadata": {}, "nbformat": 4, "nbformat_minor": 5})


def plan_of(folder: Path, name: str):
    words = ("python", name, "--output_dir", "out")
    plan = read_launch(LaunchCommand(words, {}, str(folder)), load_plugins())
    assert plan is not None
    return plan


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_notebook_is_the_plan_of_its_script(script, tmp_path):
    text = script.read_text()
    (tmp_path / "a.py").write_text(text)
    (tmp_path / "a.ipynb").write_text(notebook(MAGICS, *cells_of(text)))
    plans = [plan_of(tmp_path, name) for name in ("a.py", "a.ipynb")]
    of_script, of_notebook = (replace(plan, command=None) for plan in plans)

    assert of_notebook.to_dict() == of_script.to_dict()
    assert {n.id for n in of_notebook.notices} == {n.id for n in of_script.notices}


def test_a_value_is_found_at_its_cell_and_line(tmp_path):
    (tmp_path / "a.ipynb").write_text(
        notebook(
            "from transformers import Trainer, TrainingArguments",
            'args = TrainingArguments(\n    "out",\n    per_device_train_batch_size=3,\n)\n',
            "Trainer(model, args).train()",
            as_lines=False,
        )
    )
    plan = plan_of(tmp_path, "a.ipynb")

    assert plan.micro_batch_size == 3
    assert plan.origins["micro_batch_size"].where == "a.ipynb:2:3"


def test_what_only_ipython_runs_stands_as_a_line_that_does_nothing():
    mixed = '!ls\nz = (7\n  % 4)\ntext = """\n%d of\n"""\n%matplotlib inline\n'
    source = source_of(
        notebook(MAGICS, mixed, "%%bash\nrm -r x\n", "%%time\nx = 1\n", "y = (5\n  % 2)\n")
    )

    ran: dict[str, int] = {}
    exec(compile(source, "a.ipynb", "exec"), ran)
    assert (ran["x"], ran["y"], ran["z"], ran["text"]) == (1, 1, 3, "\n%d of\n")
    assert "rm -r" not in source and "files" not in ran
    assert place_of("a.ipynb", 3 * LINES_OF_CELL + 2) == "a.ipynb:3:2"


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "{",
            "[]",
            "{}",
            "[" * 5000,
            '{"cells": 3}',
            '{"cells": [{}]}',
            '{"worksheets": [[]]}',
        ),
        '{"cells": [{"cell_type": "code", "source": {"a": 1}}]}',
        '{"cells": [{"cell_type": "code", "source": [1, null]}]}',
    ],
)
def test_what_is_no_notebook_ends_no_check(text, tmp_path):
    (tmp_path / "a.ipynb").write_text(text)

    assert plan_of(tmp_path, "a.ipynb").micro_batch_size is None


def test_a_notebook_that_is_not_there_is_an_error_with_the_nearest(tmp_path):
    (tmp_path / "train.ipynb").write_text(notebook("import torch"))
    (problem,) = [n for n in plan_of(tmp_path, "trian.ipynb").notices if n.id == "PF128"]

    assert problem.fix == "did you mean train.ipynb"


def test_the_edits_of_a_notebook_are_told_by_cell_and_no_copy_is_written(tmp_path):
    """A copy would be a script under a notebook's name."""
    model = '"Qwen/Qwen2.5-0.5B"'
    cells = [
        "from transformers import AutoModelForCausalLM, Trainer, TrainingArguments\n"
        f"model = AutoModelForCausalLM.from_pretrained({model})\n",
        'args = TrainingArguments("out", per_device_train_batch_size=16, bf16=True)\n',
        "Trainer(model=model, args=args, train_dataset=rows).train()\n",
    ]
    (tmp_path / "a.ipynb").write_text(notebook(*cells))
    words = ("fix", "--device", "rtx4090-24", "--set", "seq_len=2048", "--", "python", "a.ipynb")
    done = preflight(tmp_path, *words)

    assert done.returncode == 1
    assert "  a.ipynb:2:1: per_device_train_batch_size=" in done.stderr
    assert not (tmp_path / ".preflight").exists()
