"""Our reading of a training command line against HfArgumentParser and TrlParser, word for word."""

from __future__ import annotations

import importlib
import json
import shlex
from enum import Enum

import pytest
from said_versions import named_libraries

from preflight.errors import BadInput
from preflight.launch import LaunchCommand
from preflight.scripts.arguments.trainer_tables import argument_table
from preflight.trainers.arguments import read_trainer_arguments

VERSIONS = {"transformers": "5.24.0", "trl": "1.16.0", "torch": "2.13.0"}
TRAIN_PY = "from transformers import HfArgumentParser, TrainingArguments\nparser = HfArgumentParser(TrainingArguments)\n"

BOTH_PARSERS = [
    "",
    "--output_dir out",
    "--output-dir out",
    "--per_device_train_batch_size 4",
    "--per_device_train_batch_size=4",
    "--per-device-train-batch-size 4",
    "--per-device-train-batch-size=4",
    "--per_device_train_batch_size 4 --per_device_train_batch_size 2",
    "--gradient_accumulation_steps 16 --per_device_eval_batch_size 1",
    "--bf16 true",
    "--bf16 True",
    "--bf16=false",
    "--bf16 1 --tf32 0",
    "--fp16",
    "--fp16 --packing_unknown",
    "--fp16 no",
    "--fp16 y",
    "--learning_rate 2e-5",
    "--learning_rate -1",
    "--learning_rate -1.5",
    "--learning_rate=.5",
    "--max_steps -1 --warmup_steps 10",
    "--num_train_epochs 3 --weight_decay 0",
    "--gradient_checkpointing true",
    "--gradient_checkpointing False",
    "--activation_checkpointing t",
    "--activation_checkpointing true --gradient_checkpointing false",
    "--gradient_checkpointing_kwargs '{\"use_reentrant\": false}'",
    '--gradient_checkpointing_kwargs \'{"use_reentrant": "False", "every_n_layers": "2"}\'',
    '--activation_checkpointing_kwargs=\'{"offload": true, "x": "1.5"}\'',
    '--accelerator_config \'{"gradient_accumulation_kwargs": {"sync_each_batch": "true"}}\'',
    "--accelerator_config accelerator.json",
    "--fsdp 'full_shard auto_wrap' --fsdp_config fsdp.json",
    '--fsdp true --fsdp_config \'{"version": 2, "cpu_offload": true}\'',
    "--deepspeed ds.json",
    "--optim adamw_bnb_8bit",
    "--optim=paged_adamw_8bit --optim_target_modules a b",
    "--no_dataloader_pin_memory",
    "--no-dataloader-pin-memory --dataloader_num_workers 4",
    "--dataloader_pin_memory false",
    "--dataloader_pin_memory",
    "--torch_compile --torch_compile_mode reduce-overhead",
    "--save_strategy no --eval_strategy steps --eval_steps 0.1",
    "--report_to wandb --report_to none",
    "--include_for_metrics loss inputs --label_names labels",
    "--include_num_input_tokens_seen",
    "--include_num_input_tokens_seen yes",
    "--activation_checkpointing --fp16",
    "--gradient_checkpointing --bf16=1",
    "--per_device_t 4",
    "--gradient_acc=2",
    "--use_liger --label_smooth 0.1",
    "--auto_find_batch_size --max_grad_norm 0.3",
    "--run_name '-a name'",
    "--run_name=--odd",
    "--seed 1_000",
    "--eval_on_start yes --do_eval",
    "--average_tokens_across_devices no",
    "--no_average_tokens_across_devices --average_tokens_across_devices",
]

TRL_ONLY = [
    "--model_name_or_path Qwen/Qwen2-0.5B --dataset_name trl-lib/Capybara --packing --use_peft",
    "--no_gradient_checkpointing",
    "--gradient_checkpointing",
    "--max_length 4096 --packing false",
    "--packing --padding_free",
    "--max-len 2048",
    "--lora_target_modules q_proj v_proj --lora_r 8 --lora-alpha=16 --lora_dropout 0",
    "--lora_target_modules all-linear --use_dora",
    "--lora_target_modules=q_proj --lora_r 4",
    "--lora_modules_to_save embed_tokens lm_head --use_rslora",
    "--load_in_4bit --bnb_4bit_quant_type fp4 --use_bnb_nested_quant true",
    "--load_in_8bit --dtype bfloat16 --attn_implementation flash_attention_2",
    '--model_init_kwargs \'{"dtype": "bfloat16", "attn_implementation": "sdpa"}\'',
    "--packing_strategy wrapped --eval_packing true --loss_type dft",
    "--activation_offloading --assistant_only_loss",
    "--pad_to_multiple_of 64 --dataset_num_proc 8",
]

REFUSED_BY_BOTH = [
    "--per_device_train_batch_size eight",
    "--per_device_train_batch_size 4.0",
    "--per_device_train_batch_size",
    "--bf16 maybe",
    "--learning_rate fast",
    "--optim adamw8bit",
    "--save_strategy sometimes",
    "--fsdp_config",
    "--liger_kernel_config '{}'",
    "--include_num_input_tokens_seen all",
    "--tf32",
    "--no_dataloader_pin_memory=1",
]


@pytest.fixture(scope="module")
def hf_parser():
    from transformers import HfArgumentParser, TrainingArguments

    return HfArgumentParser([TrainingArguments])


@pytest.fixture(scope="module")
def trl_parser():
    return importlib.import_module("trl.scripts.sft").make_parser()


def read(line, tmp_path, script="train.py"):
    (tmp_path / "train.py").write_text(TRAIN_PY)
    argv = tuple(shlex.split(line))
    command, libraries = LaunchCommand(argv, cwd=str(tmp_path)), named_libraries(VERSIONS)
    return read_trainer_arguments(argv, 0, command, libraries, script)


def theirs(parser, line, dict_fields):
    """Return what the real parser makes of a line, dict arguments parsed as TrainingArguments parses them."""
    from transformers.training_args import _convert_str_dict

    namespace, _ = parser.parse_known_args(shlex.split(line))
    values = {}
    for name, value in vars(namespace).items():
        if name in dict_fields and isinstance(value, str) and value.startswith("{"):
            value = _convert_str_dict(json.loads(value))
        values[name] = value.value if isinstance(value, Enum) else value
    return values


def ours(arguments, table):
    return {
        name: arguments.raw[name].value if name in arguments.raw else argument.default
        for name, argument in table.arguments.items()
    }


@pytest.mark.parametrize("line", BOTH_PARSERS)
def test_a_line_means_what_hf_argument_parser_makes_of_it(line, hf_parser, tmp_path):
    from transformers import TrainingArguments

    expected = theirs(hf_parser, line, TrainingArguments._VALID_DICT_FIELDS)
    arguments = read(line, tmp_path)

    assert arguments.trainer == "transformers"
    assert ours(arguments, argument_table(None)) == expected


@pytest.mark.parametrize(
    "line", [line for line in BOTH_PARSERS if "unknown" not in line] + TRL_ONLY
)
def test_a_line_means_what_trl_parser_makes_of_it(line, trl_parser, tmp_path):
    from trl import SFTConfig

    expected = theirs(trl_parser, line, SFTConfig._VALID_DICT_FIELDS)
    arguments = read(line, tmp_path, "trl/scripts/sft.py")

    assert arguments.trainer == "trl"
    assert ours(arguments, argument_table("sft")) == expected


@pytest.mark.parametrize("line", REFUSED_BY_BOTH)
def test_a_line_that_the_real_parser_refuses_is_refused(line, hf_parser, tmp_path, capsys):
    with pytest.raises((SystemExit, ValueError, TypeError)):
        hf_parser.parse_args_into_dataclasses(
            [*shlex.split(line), "--use_cpu"], look_for_args_file=False
        )
    capsys.readouterr()

    with pytest.raises(BadInput) as error:
        read(line, tmp_path)
    assert all(problem.where.startswith("--") for problem in error.value.problems)


def test_a_bare_bf16_is_refused_by_the_version_whose_parser_wants_a_value(
    trl_parser, tmp_path, capsys
):
    with pytest.raises(SystemExit):
        trl_parser.parse_known_args(["--bf16", "--packing"])
    assert "expected one argument" in capsys.readouterr().err

    with pytest.raises(BadInput, match="--bf16 needs a value"):
        read("--bf16 --packing", tmp_path, "trl/scripts/sft.py")
    argv = ("--bf16", "--packing")
    old = named_libraries({"trl": "0.18.2", "transformers": "4.52.4"})
    arguments = read_trainer_arguments(argv, 0, LaunchCommand(argv), old, "trl/scripts/sft.py")
    assert arguments.settings["mixed_precision"].value == "bf16"


@pytest.mark.parametrize("line", ["--pakcing", "--lora 4", "--bf 1"])
def test_trls_own_script_refuses_a_flag_that_it_does_not_know(line, trl_parser, tmp_path, capsys):
    with pytest.raises((SystemExit, ValueError)):
        trl_parser.parse_args_into_dataclasses(
            [*shlex.split(line), "--use_cpu"], look_for_args_file=False
        )
    capsys.readouterr()

    with pytest.raises(BadInput):
        read(line, tmp_path, "trl/scripts/sft.py")


def test_every_problem_is_reported_at_once_with_its_flag(tmp_path):
    line = (
        "--per_device_train_batch_size eight --gradient_accumulation_steps 0 --fp16 --bf16 true"
        " --fsdp_config '{\"a\": tru}' --load_in_4bit --load_in_8bit"
    )
    with pytest.raises(BadInput) as error:
        read(line, tmp_path, "trl/scripts/sft.py")

    where = [problem.where for problem in error.value.problems]
    assert where == [
        "--per_device_train_batch_size",
        "--fsdp_config",
        "--gradient_accumulation_steps",
        "--bf16, --fp16",
        "--load_in_4bit, --load_in_8bit",
    ]


def test_a_place_has_the_index_of_its_flag_in_the_whole_command(tmp_path):
    argv = shlex.split("accelerate launch train.py --bf16 true --max_grad_norm=0.5 --deepspeed x")
    (tmp_path / "train.py").write_text(TRAIN_PY)
    command = LaunchCommand(tuple(argv), cwd=str(tmp_path))
    arguments = read_trainer_arguments(argv[3:], 3, command, named_libraries(VERSIONS), "train.py")

    for setting in arguments.raw.values():
        assert argv[setting.place.index].partition("=")[0] == setting.place.key
    assert set(arguments.raw) == {"bf16", "max_grad_norm", "deepspeed"}
