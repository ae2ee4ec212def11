"""Arguments that a library has no more, or not yet, say which releases a launch may have."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
from pathlib import Path

import pytest

from preflight.launch import LaunchCommand
from preflight.libraries.pins import pinned_libraries
from preflight.libraries.ruled_out import LIBRARIES
from preflight.own_tables import read_table
from preflight.versions.spans import classes_of, spans_of

PATH = str(Path(__file__).parents[2] / "preflight/versions/release_spans.json")
DECLARED = (
    "TrainingArguments", "SFTConfig", "DPOConfig", "GRPOConfig", "RewardConfig", "ModelConfig", "ScriptArguments",
)  # fmt: skip
"""Classes that stand at the top of their library: others of TRL's are experimental, and move."""
TRAINER = "from transformers import HfArgumentParser, TrainingArguments\n"
TRL = "from trl import SFTConfig, TrlParser\n"
OWN = 'parser.add_argument("--{name}")\n'
FIELD = "@dataclass\nclass Arguments:\n    {name}: int = 512\n"
OLD = "args = TrainingArguments(evaluation_strategy='no')\n"


def pins(folder, text, *flags, requirements="", command=("torchrun", "train.py")):
    (folder / "train.py").write_text(text)
    (folder / "requirements.txt").write_text(requirements)
    found = pinned_libraries(LaunchCommand((*command, *flags), {}, str(folder)))
    return {name: (str(pinned), pinned.where) for name, pinned in found.items()}


CLASSES = [
    (library, name)
    for library in LIBRARIES
    for name in read_table(PATH)[library]
    if name in DECLARED
]


@pytest.mark.libraries
@pytest.mark.parametrize(("library", "name"), CLASSES)
def test_the_installed_library_has_those_that_came_and_none_of_those_that_left(library, name):
    held = getattr(importlib.import_module(library), name)
    spans = spans_of(library, name)

    has = {field.name for field in dataclasses.fields(held)}
    assert spans and {each for each, span in spans.items() if each in has} == _newest(spans)


@pytest.mark.libraries
@pytest.mark.parametrize(("library", "name"), CLASSES)
def test_no_argument_begins_as_the_short_name_of_one_that_left_does(library, name):
    fields = {
        field.name for field in dataclasses.fields(getattr(importlib.import_module(library), name))
    }
    known = {*spans_of(library, name), *spans_of("transformers", "TrainingArguments")}
    for gone in (each for each, span in spans_of(library, name).items() if span.until):
        words, _, last = gone.rpartition("_")
        short = f"{words}_{last[:3]}" if words else gone

        assert not [field for field in fields - known if field.startswith(short)]


def _newest(spans):
    return {name for name, span in spans.items() if not span.until}


@pytest.mark.parametrize(
    ("text", "flag", "asked"),
    [
        (TRAINER, "--evaluation_strategy=no", ("<4.51.0", "--evaluation_strategy")),
        (TRAINER, "--evaluation-strategy", ("<4.51.0", "--evaluation_strategy")),
        (TRAINER, "--overwrite_output_dir", ("<5.0.0", "--overwrite_output_dir")),
        (TRAINER + OLD, "--bf16", ("<4.51.0", "evaluation_strategy")),
        (TRAINER + "# " + OLD, "--bf16", None),
        (TRAINER + OLD + "if new:\n    args = TrainingArguments(eval_strategy='no')\n", "-x", None),
        (TRAINER + OWN.format(name="evaluation_strategy"), "--evaluation_strategy", None),
        (TRAINER, "--eval_strategy", None),
        (TRAINER, "--warmup_ratio=0.1", ("<5.15.0", "--warmup_ratio")),
        (TRAINER, "--group_by_length", ("<5.2.0", "--group_by_length")),
        (TRAINER + FIELD.format(name="warmup_ratio"), "--warmup_ratio=0.1", None),
        ("import torch\n", "--overwrite_output_dir", None),
    ],
)
def test_an_argument_bounds_transformers_where_its_own_parser_takes_it(text, flag, asked, tmp_path):
    assert pins(tmp_path, text, flag, "no").get("transformers") == asked


@pytest.mark.parametrize(
    ("text", "command", "is_bound"),
    [
        (TRL, ("torchrun", "train.py"), True),
        (TRL + FIELD.format(name="max_seq_length"), ("torchrun", "train.py"), False),
        (TRAINER, ("torchrun", "train.py"), False),
        ("", ("trl", "sft"), True),
        ("", ("torchrun", "-m", "trl.scripts.sft"), True),
        ("", ("trl", "dpo"), False),  # that one never had it
        (TRL + "from trl import DPOConfig\n", ("torchrun", "train.py"), False),  # whose is it?
    ],
)
def test_a_length_of_trls_own_bounds_it(text, command, is_bound, tmp_path):
    found = pins(tmp_path, text, "--max_seq_length", "512", command=command)

    assert ("trl" in found) is is_bound


@pytest.mark.parametrize(
    ("text", "flag", "is_bound"),
    [
        (TRL, "--max_seq_len", True),
        (TRL, "--max-seq-leng", True),
        (TRL, "--max_seq", False),  # too short to tell
        (TRL + FIELD.format(name="max_seq_len"), "--max_seq_len", False),
        (TRAINER, "--max_seq_len", False),
    ],
)
def test_a_flag_that_argparse_completed_bounds_it_too(text, flag, is_bound, tmp_path):
    found = pins(tmp_path, text, flag, "512")

    assert found.get("trl") == (
        ("<0.20.0", "--" + flag[2:].replace("-", "_")) if is_bound else None
    )


PARSED = "from trl import SFTConfig, ScriptArguments, TrlParser\n{own}p = TrlParser(({classes}))\n"
CAME = [
    ("from trl import SFTConfig\nSFTConfig(max_length=1024)\n", ">=0.16.0", "SFTConfig(max_length=)"),
    ("from trl import SFTTrainer as T\nT(m, processing_class=t)\n", ">=0.12.0", "SFTTrainer(processing_class=)"),
    ("from trl import GRPOConfig, GRPOTrainer\n", ">=0.14.0", "from trl import GRPOConfig"),
    (PARSED.format(own="", classes="ScriptArguments, SFTConfig"), ">=0.16.0", "--max_length"),
    # a class of somebody's own may have any name of the library's later ones
    (PARSED.format(own="from mine import Own\n", classes="Own, SFTConfig"), ">=0.12.0", "from trl import ScriptArguments"),
    (PARSED.format(own="class Own:\n    mine: int = 1\n", classes="Own, SFTConfig"), ">=0.16.0", "--max_length"),
    (PARSED.format(own="class Own(Base):\n    mine: int = 1\n", classes="Own, SFTConfig"), ">=0.12.0", "from trl import ScriptArguments"),
    (PARSED.format(own="class Own:\n    max_length: int = 1\n", classes="Own, SFTConfig"), ">=0.12.0", "from trl import ScriptArguments"),
    (PARSED.format(own="", classes="*classes,"), ">=0.12.0", "from trl import ScriptArguments"),
    # both, in one release: what runs is not all that was read
    ("from trl import SFTConfig, SFTTrainer\nSFTTrainer(max_seq_length=1, args=SFTConfig(max_length=1))\n", None, None),
    ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from trl import GRPOConfig\n", None, None),
    ("from trl import SFTConfig\ntry:\n    c = SFTConfig(max_length=1)\nexcept TypeError:\n    pass\n", None, None),
]  # fmt: skip


@pytest.mark.parametrize(("text", "asked", "said_by"), CAME)
def test_what_came_later_bounds_it_from_below(text, asked, said_by, tmp_path):
    found = pins(tmp_path, text, "--max_length", "512")

    assert found.get("trl") == (None if asked is None else (asked, said_by))


@pytest.mark.parametrize(
    ("own", "is_bound"),
    [
        ("import trl\nclass Own(trl.SFTConfig):\n    mine: int = 1\n", True),
        ("import trl\nclass Own(trl.SFTConfig):\n    max_length: int = 1\n", False),
        (
            "import trl\nfrom more import Base\nclass Own(Base, trl.SFTConfig):\n    mine: int = 1\n",
            False,
        ),
        (None, False),
    ],
)
def test_a_class_of_the_repositorys_own_is_read_where_it_stands(own, is_bound, tmp_path):
    text = PARSED.format(own="from mine.configs import Own\n", classes="Own, ScriptArguments")
    if own is not None:
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine" / "configs.py").write_text(own)

    assert (pins(tmp_path, text, "--max_length", "512")["trl"][0] == ">=0.16.0") is is_bound


def test_both_sides_are_bound_and_a_pin_counts_before_them(tmp_path):
    text = "from trl import GRPOConfig\nGRPOConfig(use_liger_loss=True)\n"

    said = "GRPOConfig(use_liger_loss=)"
    assert pins(tmp_path, text)["trl"] == (">=0.17.0,<0.28.0", f"{said} with {said}")
    assert pins(tmp_path, text, requirements="trl>=0.20")["trl"][0] == ">=0.20,<0.28.0"
    assert pins(tmp_path, text, requirements="trl<0.15")["trl"][0] == "<0.15"


@pytest.mark.parametrize(
    ("line", "asked", "where"),
    [
        ("transformers>=4.34", ">=4.34,<4.51.0", "requirements.txt:1 with --evaluation_strategy"),
        ("transformers>4.34", ">4.34,<4.51.0", "requirements.txt:1 with --evaluation_strategy"),
        ("transformers==4.40.0", "==4.40.0", "requirements.txt:1"),
        ("transformers>5", ">5", "requirements.txt:1"),
        ("transformers==5.1.0", "==5.1.0", "requirements.txt:1"),
        ("transformers>=5", ">=5", "requirements.txt:1"),
    ],
)
def test_the_bounds_of_a_repository_hold_beside_it(line, asked, where, tmp_path):
    found = pins(tmp_path, TRAINER, "--evaluation_strategy", "no", requirements=line)

    assert found["transformers"] == (asked, where)


FILE = "model_name_or_path: gpt2\nmax_seq_length: 512\nevaluation_strategy: 'no'\n# group_by_length: true\n"


MADE = """
from trl import SFTTrainer{more}
from transformers import Trainer, TrainingArguments
args = TrainingArguments(output_dir="out", warmup_ratio=0.1)
trainer = SFTTrainer(model=model, args=args, {keywords})
"""


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        (MADE.format(more="", keywords="max_seq_length=512"), "SFTTrainer(max_seq_length=)"),
        (MADE.format(more=", DataCollatorForCompletionOnlyLM", keywords=""), "from trl import DataCollatorForCompletionOnlyLM"),
        (MADE.format(more="", keywords="processing_class=t"), "SFTTrainer(processing_class=)"),
        ("import unsloth\n" + MADE.format(more="", keywords="max_seq_length=512"), None),
        (MADE.format(more=" as Made", keywords="max_seq_length=512"), None),  # one of its own
    ],
)  # fmt: skip
def test_what_a_script_makes_and_imports_bounds_trl(text, asked, tmp_path):
    found = pins(tmp_path, text)

    assert found.get("trl", ("", None))[1] == asked
    assert "unsloth" in text or found["transformers"][1] == "TrainingArguments(warmup_ratio=)"


OLDER = "from trl import SFTTrainer\n"
CALL = "SFTTrainer(model=m, max_seq_length=1)"


@pytest.mark.parametrize(
    ("text", "is_bound"),
    [
        (f"{OLDER}if True:\n    t = {CALL}\n", True),
        (f"import trl\nt = trl.{CALL}\n", True),
        (f"{OLDER}try:\n    t = {CALL}\nexcept TypeError:\n    t = SFTTrainer(model=m)\n", False),
        (f"{OLDER}if version.parse(trl.__version__) < old:\n    t = {CALL}\n", False),
        (f"try:\n    from trl import DataCollatorForCompletionOnlyLM\nexcept ImportError:\n    {OLDER}", False),
        (f"{OLDER}t = {CALL}\nprint 'a script of Python 2'\n", False),
    ],
)  # fmt: skip
def test_what_may_not_run_in_another_release_says_nothing(text, is_bound, tmp_path):
    assert ("trl" in pins(tmp_path, text)) is is_bound


MADE_BY_SCRIPTS = ("Trainer", "SFTTrainer", "DPOTrainer", "GRPOTrainer", "LoraConfig")


@pytest.mark.libraries
@pytest.mark.parametrize("library", LIBRARIES)
def test_the_installed_library_gives_the_names_and_takes_the_keywords_that_came(library):
    package, names = importlib.import_module(library), spans_of(library, "import")
    made = [n for n in classes_of(library) if n in MADE_BY_SCRIPTS]

    assert {name for name in names if hasattr(package, name)} == _newest(names)
    for name in made:
        taken, spans = (
            inspect.signature(getattr(package, name).__init__).parameters,
            spans_of(library, name),
        )
        assert spans and {*taken} & {*spans} == _newest(spans)
    assert made


def test_a_file_of_arguments_says_so_too(tmp_path):
    (tmp_path / "sft.yaml").write_text(FILE)
    found = pins(tmp_path, "", "--config", "sft.yaml", command=("trl", "sft"))

    assert found["trl"] == ("<0.20.0", "sft.yaml: max_seq_length")
    assert found["transformers"] == ("<4.51.0", "sft.yaml: evaluation_strategy")
