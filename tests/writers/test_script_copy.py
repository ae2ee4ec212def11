"""A copy of the training script has other literals and nothing else: it reads as the plan it was made for, or is not made."""

from __future__ import annotations

import difflib
import json
import re
import subprocess
import sys
from dataclasses import replace

import pytest
from test_by_hand import CASES, CHANGES, QLORA, SCRIPTS, SFT, TRAINER, plan_of

from preflight.plugins import load_plugins
from preflight.rewrite import Rewrite, save_rewrite
from preflight.rewriting import differing_fields, write_checked, write_with_copy


def copied(folder, script, changes, command="python train.py", files=None):
    """Return the plan as written, the edited plan and the rewrite with a copy, which must be the only way."""
    before = plan_of(folder, command, {"train.py": script, **(files or {})})
    after = before.with_edits(changes)

    assert write_checked(before, after, load_plugins()) is None
    return before, after, write_with_copy(before, after, load_plugins())


def added_lines(rewrite: Rewrite) -> list[str]:
    (file,) = rewrite.files
    lines = difflib.ndiff(file.before.splitlines(), file.after.splitlines())
    return [line[2:] for line in lines if line.startswith("+ ")]


# The kernels that come with a loss in pieces are no part of that plan, so no copy gives it.
WHOLE = [case for case in CASES if case[1] != "a loss in pieces"]


@pytest.mark.parametrize(("trainer", "change"), WHOLE)
def test_a_copy_reads_as_the_plan_and_leaves_the_script_alone(tmp_path, trainer, change):
    before, after, rewrite = copied(tmp_path, SCRIPTS[trainer], CHANGES[change])
    save_rewrite(rewrite)
    again = plan_of(tmp_path, " ".join(rewrite.argv), {})

    assert rewrite.argv == ("python", ".preflight/train.py")
    assert not differing_fields(again, after, before)
    assert (tmp_path / "train.py").read_text() == SCRIPTS[trainer]


@pytest.mark.parametrize("trainer", SCRIPTS)
def test_an_adapter_on_a_packed_base_is_written_with_its_imports(tmp_path, trainer):
    script = re.sub("import torch\n|from peft import .*\n", "", SCRIPTS[trainer])
    script = re.sub(r",? ?\bBitsAndBytesConfig|torch\.(?=float32)", "", script)
    script = script.replace("from transformers import\n", "").replace("=float32", '="float32"')
    base = replace(QLORA["base_quantization"], upcast_unquantized_to_fp32="none")
    adapter = replace(QLORA["adapter"], dtype="bf16" if trainer == "trl" else None)
    changes = {**QLORA, "base_quantization": base, "adapter": adapter}
    _, _, rewrite = copied(tmp_path, script, changes)
    lines = added_lines(rewrite)

    assert "from peft import LoraConfig" in lines and "import torch" in lines
    assert "from transformers import BitsAndBytesConfig" in lines


def test_a_keyword_stands_in_a_line_of_its_own_where_the_others_do(tmp_path):
    _, _, rewrite = copied(tmp_path, TRAINER, CHANGES["a smaller micro batch"])

    assert added_lines(rewrite) == [
        "    per_device_train_batch_size=2,",
        "    gradient_accumulation_steps=8,",
    ]


UNSAFE = {
    "reads beside itself": ("import os\nHERE = os.path.dirname(__file__)\n", {}),
    "imports beside itself": ("import mine\n", {"mine.py": ""}),
    "imports a package beside itself": ("from mine.data import rows\n", {"mine/data.py": ""}),
    "imports by name": ("import importlib\n", {}),
    "would find another copy": ("import mine\n", {".preflight/mine.py": ""}),
}


@pytest.mark.parametrize("way", UNSAFE)
def test_no_copy_is_made_of_a_script_that_may_do_something_else_elsewhere(tmp_path, way):
    head, files = UNSAFE[way]
    _, _, rewrite = copied(
        tmp_path, head + SFT, CHANGES["a smaller micro batch"], "python train.py", files
    )

    assert rewrite is None


NO_LITERAL = {
    "a product": SFT.replace("size=4", "size=2 * 2"),
    "a name": SFT.replace("size=4", "size=SIZE").replace("trainer =", "SIZE = 4\ntrainer ="),
    "two of one line": SFT.replace("size=4,", "size=4, **dict(per_device_train_batch_size=4),"),
}


@pytest.mark.parametrize("way", NO_LITERAL)
def test_what_is_no_literal_of_its_line_is_not_replaced(tmp_path, way):
    before = plan_of(tmp_path, "python train.py", {"train.py": NO_LITERAL[way]})
    after = before.with_edits({"micro_batch_size": 2})

    assert write_with_copy(before, after, load_plugins()) is None


def test_the_launcher_and_the_words_behind_the_script_stay(tmp_path):
    command = "torchrun --nproc_per_node 2 train.py run-1 train.py"
    _, _, rewrite = copied(tmp_path, SFT, CHANGES["checkpointing"], command)

    assert rewrite.argv[3:] == (".preflight/train.py", "run-1", "train.py")


SHOWS = """\
import json
from transformers import Trainer, TrainingArguments

arguments = TrainingArguments("out", per_device_train_batch_size=16, report_to="none")
print(json.dumps(arguments.to_dict(), default=str))
"""


@pytest.mark.libraries
def test_the_copy_gives_the_library_the_arguments_that_were_told(tmp_path):
    changes = {**CHANGES["a smaller micro batch"], **CHANGES["an optimizer"]}
    _, _, rewrite = copied(tmp_path, SHOWS, changes)
    save_rewrite(rewrite)
    command = [sys.executable, *rewrite.argv[1:]]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    given = json.loads(done.stdout)

    assert given["per_device_train_batch_size"] == 2
    assert given["gradient_accumulation_steps"] == 8
    assert given["optim"] == "adamw_bnb_8bit"
