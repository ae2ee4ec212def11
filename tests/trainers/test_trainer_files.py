"""Argument files of training scripts, against TrlParser and HfArgumentParser on the same file."""

from __future__ import annotations

import importlib
import os

import pytest
from said_versions import named_libraries

from preflight.errors import BadInput
from preflight.launch import LaunchCommand
from preflight.trainers.arguments import read_trainer_arguments

VERSIONS = {"transformers": "5.24.0", "trl": "1.16.0", "torch": "2.13.0"}
SFT = "trl/scripts/sft.py"
HF = "from transformers import HfArgumentParser, TrainingArguments\n"

CONFIG = """\
# a run
env:
  PYTORCH_CUDA_ALLOC_CONF: expandable_segments:True
model_name_or_path: Qwen/Qwen2-0.5B
per_device_train_batch_size: "4"
learning_rate: 2e-5
bf16: "false"
fp16: true
gradient_checkpointing: no
gradient_checkpointing_kwargs: {use_reentrant: false}
max_length: null
lora_target_modules: [q_proj, v_proj]
"""


def read(argv, tmp_path, script=SFT, **files):
    for name, text in files.items():
        (tmp_path / name.replace("_", ".")).write_text(text)
    command = LaunchCommand(tuple(argv), cwd=str(tmp_path))
    return read_trainer_arguments(argv, 0, command, named_libraries(VERSIONS), script)


def test_a_trl_config_file_means_what_trl_parser_makes_of_it(tmp_path, monkeypatch):
    arguments = read(["--config", "c.yaml"], tmp_path, c_yaml=CONFIG)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    monkeypatch.chdir(tmp_path)
    make_parser = importlib.import_module("trl.scripts.sft").make_parser
    _, config, model, _ = make_parser().parse_args_and_config(["--config", "c.yaml", "--use_cpu"])
    exported = os.environ["PYTORCH_CUDA_ALLOC_CONF"]

    for name, setting in arguments.raw.items():
        theirs = getattr(config, name) if hasattr(config, name) else getattr(model, name)
        assert setting.value == theirs, name
    assert arguments.environment["PYTORCH_CUDA_ALLOC_CONF"].value == exported
    assert arguments.documents == {"trainer": "c.yaml"}


def test_every_value_of_a_file_has_its_line(tmp_path):
    arguments = read(["--config", "c.yaml"], tmp_path, c_yaml=CONFIG)

    for name, setting in arguments.raw.items():
        assert CONFIG.splitlines()[setting.place.line - 1].startswith(f"{name}:")
    assert arguments.environment["PYTORCH_CUDA_ALLOC_CONF"].place.where == "c.yaml:3"


def test_a_flag_beats_the_file_and_both_places_are_kept(tmp_path):
    argv = ["--config", "c.yaml", "--per_device_train_batch_size", "2"]
    arguments = read(argv, tmp_path, c_yaml=CONFIG)

    assert arguments.settings["micro_batch_size"].value == 2
    flag, line = arguments.places["micro_batch_size"]
    assert (flag.kind, flag.index) == ("argv", 2)
    assert (line.kind, line.where) == ("yaml", "c.yaml:5")


def test_an_unlimited_length_is_unknown_and_said(tmp_path):
    arguments = read(["--config", "c.yaml"], tmp_path, c_yaml=CONFIG)

    assert "seq_len" not in arguments.settings
    assert any("sequences are not cut" in problem.message for problem in arguments.notices)


def test_trls_own_script_drops_an_unknown_key_and_we_say_so(tmp_path, monkeypatch):
    text = "max_lenght: 99\n"
    arguments = read(["--config", "c.yaml"], tmp_path, c_yaml=text)
    monkeypatch.chdir(tmp_path)
    make_parser = importlib.import_module("trl.scripts.sft").make_parser
    _, config, _, _ = make_parser().parse_args_and_config(
        ["--config", "c.yaml", "--use_cpu"], fail_with_unknown_args=False
    )

    assert config.max_length == arguments.settings["seq_len"].value == 1024
    problem = arguments.notices[0]
    assert (problem.where, problem.fix) == ("c.yaml:1", "did you mean max_length")


def test_every_problem_of_a_file_is_reported_at_once(tmp_path):
    text = "per_device_train_batch_size: 4.5\nsave_strategy: no\noptim: adamw8bit\nenv: 3\nbf16: maybe\n"
    with pytest.raises(BadInput) as error:
        read(["--config", "c.yaml"], tmp_path, c_yaml=text)

    assert [problem.where for problem in error.value.problems] == [
        "c.yaml:1",
        "c.yaml:2",
        "c.yaml:3",
        "c.yaml:4",
        "c.yaml:5",
    ]


def test_a_missing_config_file_is_named(tmp_path):
    with pytest.raises(BadInput, match=r"there is no file gone\.yaml"):
        read(["--config", "gone.yaml"], tmp_path)


def test_a_json_file_instead_of_flags_is_read_as_parse_json_file_does(tmp_path):
    from transformers import HfArgumentParser, TrainingArguments

    text = '{\n "output_dir": "out",\n "per_device_train_batch_size": 2,\n "use_cpu": true,\n "optim": "adafactor"\n}\n'
    arguments = read(["a.json"], tmp_path, "train.py", a_json=text, train_py=HF)
    (theirs,) = HfArgumentParser([TrainingArguments]).parse_json_file(tmp_path / "a.json")

    for name, setting in arguments.raw.items():
        assert setting.value == getattr(theirs, name)
    assert arguments.settings["micro_batch_size"].place.where == "a.json:3"
    assert arguments.settings["optimizer"].value == theirs.optim == "adafactor"


def test_a_number_in_quotes_is_refused_where_the_parser_does_not_convert(tmp_path):
    text = 'per_device_train_batch_size: "4"\nlearning_rate: 2e-5\n'
    with pytest.raises(BadInput) as error:
        read(["a.yaml"], tmp_path, "train.py", a_yaml=text, train_py=HF)

    assert [problem.where for problem in error.value.problems] == ["a.yaml:1", "a.yaml:2"]


STEPS = """\
import sys
from transformers import HfArgumentParser, Trainer, TrainingArguments
(args,) = HfArgumentParser(TrainingArguments).parse_yaml_file(sys.argv[1])
LINE
Trainer(args=args).train()
"""


@pytest.mark.parametrize(
    ("line", "number"),
    [
        ("args.set_optimizer(name=args.optim, epsilon=float(args.adam_epsilon))", 1e-7),
        ("args.adam_epsilon = float(args.adam_epsilon)", 1e-7),
        ("print(float(args.adam_beta1), int(len(args.adam_epsilon)))", None),
        ("args.adam_epsilon = int(args.adam_epsilon)", None),
    ],
)
def test_a_number_that_stays_text_is_one_where_the_script_makes_it_one(line, number, tmp_path):
    """PyYAML reads 1e-7 as text, parse_yaml_file hands it on, and torch compares it with 0."""
    (tmp_path / "train.py").write_text(STEPS.replace("LINE", line))
    files = {"c_yaml": "output_dir: out\nadam_epsilon: 1e-7\n"}

    if number is None:
        with pytest.raises(BadInput, match="adam_epsilon must be a number"):
            read(["c.yaml"], tmp_path, script="train.py", **files)
    else:
        told = read(["c.yaml"], tmp_path, script="train.py", **files)
        assert told.raw["adam_epsilon"].value == number


def test_a_text_in_place_of_a_switch_turns_it_on_and_we_say_so(tmp_path):
    from transformers import HfArgumentParser, TrainingArguments

    text = 'output_dir: o\ndo_eval: "no"\ngradient_checkpointing: "true"\nuse_cpu: true\n'
    arguments = read(["a.yaml"], tmp_path, "train.py", a_yaml=text, train_py=HF)
    (theirs,) = HfArgumentParser([TrainingArguments]).parse_yaml_file(str(tmp_path / "a.yaml"))

    for name in ("do_eval", "gradient_checkpointing"):
        assert arguments.raw[name].value is bool(getattr(theirs, name)) is True
    assert [(problem.id, problem.where) for problem in arguments.notices] == [("PF110", "a.yaml:2")]


def test_a_script_that_cannot_be_read_is_told_by_its_config_file(tmp_path):
    text = "packing: true\nmax_length: 4096\ndataset_name: x\n"
    arguments = read(["--config", "c.yaml"], tmp_path, "gone.py", c_yaml=text)

    assert arguments.trainer == "trl"
    assert arguments.settings["seq_len"].value == 4096


def test_a_config_flag_of_another_kind_is_left_alone(tmp_path):
    arguments = read(["--config", "c.ini"], tmp_path, "train.py", train_py=HF, c_ini="[a]\n")

    assert arguments.documents == {}
    assert arguments.raw["config"].value == "c.ini"


def test_a_section_of_a_file_is_no_name_of_a_model_or_an_optimizer(tmp_path):
    """A loop of somebody's own may group its settings under the words that others use for names."""
    (tmp_path / "small.yaml").write_text(
        "model:\n  d_model: 256\n  n_layers: 8\noptimizer:\n  name: adamw\n  lr: 0.0006\nseq_len: 1024\n"
    )
    (tmp_path / "train.py").write_text("import argparse\nfrom accelerate import Accelerator\n")
    argv = ("small.yaml",)
    command = LaunchCommand(argv, cwd=str(tmp_path))
    fields = read_trainer_arguments(
        argv, 0, command, named_libraries(VERSIONS), "train.py"
    ).settings

    assert fields["seq_len"].value == 1024
    assert "model" not in fields and "optimizer" not in fields


def test_a_section_in_place_of_a_model_name_is_refused(tmp_path):
    (tmp_path / "sft.yaml").write_text("model_name_or_path:\n  name: gpt2\n")
    with pytest.raises(BadInput, match="model_name_or_path must be text"):
        read(["--config", "sft.yaml"], tmp_path)
