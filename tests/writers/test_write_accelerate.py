"""A changed plan is written into every place that states it, and reading the result gives the changed plan."""

from __future__ import annotations

import json
import shlex

import pytest
import yaml

from preflight.launch import Adapter, BaseQuantization, LaunchCommand
from preflight.launchers.accelerate.plan import read_accelerate_launch
from preflight.rewriting import differing_fields, rewritten_command
from preflight.writers.launch import write_launch

TRAINER = "from transformers import HfArgumentParser, TrainingArguments\nHfArgumentParser(TrainingArguments)\n"
OWN_ARGUMENTS = "from transformers import TrainingArguments\nTrainingArguments(output_dir='x')\n"
SFT = "from trl import ModelConfig, SFTConfig, SFTTrainer, TrlParser\nTrlParser((SFTConfig, ModelConfig))\n"
LOOP = "import argparse\nfrom accelerate import Accelerator\nAccelerator()\n"
FSDP2 = """# mine
distributed_type: FSDP
num_processes: 8  # all of them
mixed_precision: 'bf16'
fsdp_config:
  fsdp_version: 2
  fsdp_auto_wrap_policy: TRANSFORMER_BASED_WRAP
  fsdp_reshard_after_forward: false  # fast
# end
"""
FSDP1 = FSDP2.replace("fsdp_version: 2", "fsdp_version: 1").replace(
    "fsdp_reshard_after_forward: false", "fsdp_sharding_strategy: SHARD_GRAD_OP"
)
DDP = "distributed_type: MULTI_GPU\nnum_processes: 4\n"
DEEPSPEED_FILE = """distributed_type: DEEPSPEED
num_processes: 4
deepspeed_config:
  deepspeed_config_file: ds/zero.json   # relative to where the job starts
"""
DEEPSPEED_KEYS = """distributed_type: DEEPSPEED
mixed_precision: bf16
num_processes: 4
deepspeed_config:
  zero_stage: 2
  gradient_accumulation_steps: 2
"""
ZERO3 = """{
  "zero_optimization": {"stage": 3, "stage3_max_live_parameters": 1e9},
  "train_micro_batch_size_per_gpu": 8,
  "gradient_accumulation_steps": "auto",
  "train_batch_size": 64,
  "bf16": {"enabled": "auto"}
}
"""
LLAMA = '{"model_type": "llama", "hidden_size": 64, "attention_dropout": 0.0}'
HALVED = {"micro_batch_size": 4, "gradient_accumulation_steps": 4}
BATCH = "--per_device_train_batch_size 8 --gradient_accumulation_steps 2"


@pytest.fixture
def launch(tmp_path):
    """Return a function that makes the files of a launch and reads it."""

    def make(line, files, env=None):
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text.encode())
        command = LaunchCommand(
            tuple(shlex.split(line)),
            {"HF_HOME": str(tmp_path / "hf"), **(env or {})},
            str(tmp_path),
        )
        plan = read_accelerate_launch(command)
        assert plan is not None
        return plan

    return make


def written(before, edits):
    """Write an edited plan back, check that reading the result gives the edited plan, and return the rewrite."""
    after = before.with_edits(edits)
    rewrite = write_launch(before, after)
    assert rewrite is not None
    again = read_accelerate_launch(rewritten_command(before.command, rewrite))

    assert differing_fields(again, after, before) == ()
    return rewrite


def changes(file):
    """Return the lines that a copy has and the user's file does not."""
    old = file.before.splitlines(keepends=True)
    return [line for line in file.after.splitlines(keepends=True) if line not in old]


def test_every_remedy_of_a_trainer_under_fsdp_is_written_at_once(launch):
    before = launch(
        f"accelerate launch --config_file f.yaml t.py {BATCH}", {"f.yaml": FSDP2, "t.py": TRAINER}
    )
    rewrite = written(
        before,
        {
            **HALVED,
            "activation_checkpointing": "full",
            "reshard_after_forward": True,
            "sync_each_batch": True,
            "expandable_segments": True,
        },
    )

    assert rewrite.argv == (
        *("accelerate", "launch", "--config_file", ".preflight/f.yaml", "t.py"),
        *("--per_device_train_batch_size", "4", "--gradient_accumulation_steps", "4"),
        *("--activation_checkpointing", "true", "--accelerator_config"),
        '{"gradient_accumulation_kwargs": {"sync_each_batch": true}}',
    )
    assert rewrite.env == {"PYTORCH_ALLOC_CONF": "expandable_segments:True"}
    assert [changes(file) for file in rewrite.files] == [
        ["  fsdp_reshard_after_forward: true  # fast\n"]
    ]
    assert ("", "--activation_checkpointing true") in rewrite.argv_diff


def test_nothing_is_written_to_disk(launch, tmp_path):
    before = launch(
        "accelerate launch --config_file f.yaml t.py", {"f.yaml": FSDP2, "t.py": TRAINER}
    )
    written(before, {"reshard_after_forward": True})

    assert not (tmp_path / ".preflight").exists()
    assert (tmp_path / "f.yaml").read_text() == FSDP2


def test_no_change_is_the_same_command(launch):
    before = launch(
        "accelerate launch --config_file f.yaml t.py", {"f.yaml": FSDP2, "t.py": TRAINER}
    )
    rewrite = written(before, {})

    assert rewrite.argv == before.command.argv
    assert (rewrite.files, dict(rewrite.env), rewrite.argv_diff) == ((), {}, ())


@pytest.mark.parametrize("strategy", ["SHARD_GRAD_OP", "2", "HYBRID_SHARD_ZERO2"])
def test_fsdp1_reshards_through_its_strategy_in_the_users_spelling(launch, strategy):
    text = FSDP1.replace("SHARD_GRAD_OP", strategy)
    before = launch(
        "accelerate launch --config_file f.yaml t.py", {"f.yaml": text, "t.py": TRAINER}
    )
    rewrite = write_launch(before, before.with_edits({"reshard_after_forward": True}))
    new = {"SHARD_GRAD_OP": "FULL_SHARD", "2": "1", "HYBRID_SHARD_ZERO2": "HYBRID_SHARD"}[strategy]

    assert changes(rewrite.files[0]) == [f"  fsdp_sharding_strategy: {new}  # fast\n"]


@pytest.mark.parametrize(
    ("flags", "wanted"),
    [
        ("--fsdp 'shard_grad_op auto_wrap'", "--fsdp 'full_shard auto_wrap'"),
        (
            """--fsdp --fsdp_config '{"reshard_after_forward": false}'""",
            """--fsdp --fsdp_config '{"reshard_after_forward": true}'""",
        ),
    ],
)
def test_the_trainers_own_fsdp_flags_are_edited_where_they_decide(launch, flags, wanted):
    before = launch(
        f"accelerate launch --config_file f.yaml t.py {flags}", {"f.yaml": DDP, "t.py": TRAINER}
    )
    rewrite = written(before, {"reshard_after_forward": True})

    assert shlex.join(rewrite.argv[5:]) == wanted
    assert rewrite.files == ()


def test_an_fsdp_config_file_is_copied_and_the_flag_points_to_the_copy(launch):
    files = {"f.yaml": DDP, "t.py": TRAINER, "fsdp.json": '{"reshard_after_forward": false}\n'}
    line = "accelerate launch --config_file f.yaml t.py --fsdp --fsdp_config fsdp.json"
    rewrite = written(launch(line, files), {"reshard_after_forward": True})

    assert rewrite.argv[-1] == ".preflight/fsdp.json"
    assert rewrite.files[0].after == '{"reshard_after_forward": true}\n'


def test_a_default_config_is_left_alone_because_a_flag_beats_it(launch):
    files = {"hf/accelerate/default_config.yaml": FSDP2, "t.py": TRAINER}
    rewrite = written(
        launch("accelerate launch t.py --optim adamw_torch", files), {"reshard_after_forward": True}
    )

    assert rewrite.argv[2:5] == ("--fsdp_reshard_after_forward", "true", "t.py")
    assert rewrite.files == ()


def test_a_module_keeps_its_dash_m_right_before_it(launch):
    line = "accelerate launch --use_fsdp --fsdp_version 2 --num_processes 4 -m pkg.train --optim adamw_torch"
    before = launch(line.replace("-m", "--fsdp_reshard_after_forward=false -m"), {})
    rewrite = written(before, {"reshard_after_forward": True, "activation_checkpointing": "full"})
    unnamed = written(launch(line, {}), {"reshard_after_forward": False})

    assert "--fsdp_reshard_after_forward=true" in rewrite.argv
    assert unnamed.argv[-6:] == (
        *("--fsdp_reshard_after_forward", "false", "-m", "pkg.train", "--optim", "adamw_torch"),
    )


# Batch sizes and their copies


def test_deepspeed_copies_of_the_batch_change_together_and_auto_stays(launch):
    files = {"d.yaml": DEEPSPEED_FILE, "ds/zero.json": ZERO3, "t.py": TRAINER}
    before = launch(f"accelerate launch --config_file d.yaml t.py --bf16 {BATCH}", files)
    rewrite = written(before, HALVED)
    zero, config = rewrite.files

    assert changes(zero) == ['  "train_micro_batch_size_per_gpu": 4,\n']
    assert changes(config) == [
        "  deepspeed_config_file: .preflight/zero.json   # relative to where the job starts\n"
    ]
    assert "--config_file .preflight/d.yaml" in shlex.join(rewrite.argv)


def test_a_stated_total_follows_a_changed_global_batch(launch):
    files = {"d.yaml": DEEPSPEED_FILE, "ds/zero.json": ZERO3, "t.py": TRAINER}
    before = launch(f"accelerate launch --config_file d.yaml t.py --bf16 {BATCH}", files)
    rewrite = written(before, {"micro_batch_size": 4})

    assert json.loads(rewrite.files[0].after)["train_batch_size"] == 32


def test_a_deepspeed_file_of_the_trainer_is_named_by_its_flag(launch):
    files = {"d.yaml": DDP, "ds/zero.json": ZERO3, "t.py": TRAINER}
    line = f"accelerate launch --config_file d.yaml t.py --bf16 --deepspeed=ds/zero.json {BATCH}"
    rewrite = written(launch(line, files), HALVED)

    assert "--deepspeed=.preflight/zero.json" in rewrite.argv
    assert len(rewrite.files) == 1


def test_accumulation_in_the_launchers_yaml_changes_with_the_flag(launch):
    files = {"d.yaml": DEEPSPEED_KEYS, "t.py": TRAINER}
    rewrite = written(
        launch(f"accelerate launch --config_file d.yaml t.py --bf16 {BATCH}", files), HALVED
    )

    assert changes(rewrite.files[0]) == ["  gradient_accumulation_steps: 4\n"]


def test_a_default_config_that_names_a_deepspeed_file_is_overruled_by_a_flag(launch):
    files = {
        "hf/accelerate/default_config.yaml": DEEPSPEED_FILE,
        "ds/zero.json": ZERO3,
        "t.py": TRAINER,
    }
    rewrite = written(launch(f"accelerate launch t.py --bf16 {BATCH}", files), HALVED)

    assert rewrite.argv[2:4] == ("--deepspeed_config_file", ".preflight/zero.json")
    assert len(rewrite.files) == 1


def test_bucket_sizes_go_into_the_deepspeed_file_under_the_users_spelling(launch):
    files = {"d.yaml": DEEPSPEED_FILE, "ds/zero.json": ZERO3, "t.py": TRAINER}
    before = launch(f"accelerate launch --config_file d.yaml t.py --bf16 {BATCH}", files)
    rewrite = written(
        before,
        {"deepspeed.stage3_max_live_parameters": 10**8, "deepspeed.reduce_bucket_size": 5 * 10**7},
    )

    assert json.loads(rewrite.files[0].after)["zero_optimization"] == {
        "stage": 3,
        "stage3_max_live_parameters": 10**8,
        "reduce_bucket_size": 5 * 10**7,
    }
    keys = launch(
        f"accelerate launch --config_file k.yaml t.py --bf16 {BATCH}", {"k.yaml": DEEPSPEED_KEYS}
    )
    assert write_launch(keys, keys.with_edits({"deepspeed.reduce_bucket_size": 1000})) is None


def test_repeated_flags_all_change_and_keep_their_form(launch):
    line = (
        "accelerate launch --config_file f.yaml t.py --per-device-train-batch-size=8"
        " --gradient-accumulation-steps 1 --per-device-train-batch-size 8"
    )
    rewrite = written(
        launch(line, {"f.yaml": FSDP2, "t.py": TRAINER}),
        {**HALVED, "gradient_accumulation_steps": 2},
    )

    assert rewrite.argv[5:] == (
        *("--per-device-train-batch-size=4", "--gradient-accumulation-steps", "2"),
        *("--per-device-train-batch-size", "4"),
    )


def test_an_abbreviated_flag_is_edited_where_it_stands(launch):
    line = "accelerate launch --config_file f.yaml t.py --per_device_train 8 --gradient_acc 1"
    rewrite = written(
        launch(line, {"f.yaml": FSDP2, "t.py": TRAINER}),
        {**HALVED, "gradient_accumulation_steps": 2},
    )

    assert rewrite.argv[5:] == ("--per_device_train", "4", "--gradient_acc", "2")


# Argument files


def test_an_argument_file_with_crlf_is_edited_in_its_copy(launch):
    run = (
        "model_name_or_path: m\r\nper_device_train_batch_size: 8  # b\r\n"
        "gradient_checkpointing: no\r\nmax_length: 2048\r\n"
    )
    files = {"f.yaml": FSDP2, "t.py": SFT, "run.yaml": run}
    before = launch("accelerate launch --config_file f.yaml t.py --config run.yaml", files)
    rewrite = written(
        before, {"micro_batch_size": 4, "activation_checkpointing": "full", "seq_len": 1024}
    )

    assert changes(rewrite.files[0]) == [
        "per_device_train_batch_size: 4  # b\r\n",
        "gradient_checkpointing: true\r\n",
        "max_length: 1024\r\n",
    ]
    assert rewrite.argv[-2:] == ("--config", ".preflight/run.yaml")


def test_a_script_that_reads_only_a_file_gets_new_arguments_in_the_file(launch):
    run = '{\n  "per_device_train_batch_size": 8,\n  "fsdp": "shard_grad_op auto_wrap"\n}\n'
    files = {"d.yaml": DDP, "t.py": TRAINER, "run.json": run}
    before = launch("accelerate launch --config_file d.yaml t.py run.json", files)
    rewrite = written(
        before,
        {
            "micro_batch_size": 4,
            "gradient_accumulation_steps": 2,
            "activation_checkpointing": "full",
            "reshard_after_forward": True,
            "optimizer": "adamw_bnb_8bit",
        },
    )

    assert rewrite.argv[-2:] == ("t.py", ".preflight/run.json")
    assert json.loads(rewrite.files[0].after) == {
        "per_device_train_batch_size": 4,
        "fsdp": "full_shard auto_wrap",
        "activation_checkpointing": True,
        "gradient_accumulation_steps": 2,
        "optim": "adamw_bnb_8bit",
    }


# One checkpointing switch


def test_a_loop_without_dropout_gets_fsdps_own_switch(launch):
    files = {"f.yaml": FSDP2, "t.py": LOOP, "model/config.json": LLAMA}
    before = launch("accelerate launch --config_file f.yaml t.py --model_name_or_path model", files)
    rewrite = written(before, {"activation_checkpointing": "full"})

    assert changes(rewrite.files[0]) == ["  fsdp_activation_checkpointing: true\n"]
    assert len(rewrite.argv_diff) == 1


@pytest.mark.parametrize(
    ("config", "script", "model"),
    [
        (FSDP2, LOOP, LLAMA.replace("0.0", "0.1")),
        (FSDP2, LOOP, '{"model_type": "gpt2"}'),
        (FSDP2, LOOP + "torch.nn.Dropout(0.1)\n", LLAMA),
        (FSDP2, LOOP + "if hot():\n    model.gradient_checkpointing_enable()\n", LLAMA),
        (FSDP2.replace("TRANSFORMER_BASED_WRAP", "NO_WRAP"), LOOP, LLAMA),
        (FSDP2, OWN_ARGUMENTS, LLAMA),
        (DDP, LOOP, LLAMA),
    ],
    ids=[
        "dropout",
        "unknown-dropout",
        "script-dropout",
        "script-switch",
        "no-wrap",
        "own-arguments",
        "ddp",
    ],
)
def test_fsdps_switch_is_not_used_where_it_is_wrong_or_unsure(launch, config, script, model):
    files = {"f.yaml": config, "t.py": script, "model/config.json": model}
    before = launch("accelerate launch --config_file f.yaml t.py --model_name_or_path model", files)

    assert write_launch(before, before.with_edits({"activation_checkpointing": "full"})) is None


def test_a_switch_that_the_script_throws_is_read_and_needs_no_other(launch):
    script = LOOP + "model.gradient_checkpointing_enable()\n"
    files = {"f.yaml": FSDP2, "t.py": script, "model/config.json": LLAMA}
    before = launch("accelerate launch --config_file f.yaml t.py --model_name_or_path model", files)

    assert before.activation_checkpointing == "full"
    assert before.origins["activation_checkpointing"].where == "t.py:4"
    assert written(before, {}).files == ()


def test_fsdp1_restores_the_random_state_so_dropout_does_not_matter(launch):
    files = {"f.yaml": FSDP1, "t.py": LOOP, "model/config.json": '{"model_type": "gpt2"}'}
    before = launch("accelerate launch --config_file f.yaml t.py --model_name_or_path model", files)

    assert written(before, {"activation_checkpointing": "full"}).files


@pytest.mark.parametrize(
    ("version", "flags"),
    [
        ("5.24.0", ["--activation_checkpointing", "true"]),
        ("5.10.0", ["--gradient_checkpointing", "true"]),
        (
            "4.56.0",
            [
                "--gradient_checkpointing",
                "true",
                "--gradient_checkpointing_kwargs",
                '{"use_reentrant": false}',
            ],
        ),
    ],
)
def test_the_checkpointing_flag_has_the_name_of_the_installed_version(launch, version, flags):
    before = launch(
        "accelerate launch --config_file f.yaml t.py", {"f.yaml": FSDP2, "t.py": TRAINER}
    )
    older = before.with_edits({"versions": {**before.versions, "transformers": version}})
    rewrite = write_launch(older, older.with_edits({"activation_checkpointing": "full"}))

    assert list(rewrite.argv[5:]) == flags


@pytest.mark.parametrize("flag", ["--no_gradient_checkpointing", "--gradient_checkpointing False"])
def test_a_switch_that_is_there_is_turned_and_no_second_one_added(launch, flag):
    files = {"f.yaml": FSDP2, "t.py": SFT}
    before = launch(f"accelerate launch --config_file f.yaml t.py --packing {flag}", files)
    rewrite = written(before, {"activation_checkpointing": "full"})

    assert [word.lower() for word in rewrite.argv[6:]] == ["--gradient_checkpointing", "true"]


# What only TRL's model arguments can say


def test_qlora_is_written_as_trls_flags(launch):
    files = {"f.yaml": FSDP2, "t.py": SFT}
    before = launch("accelerate launch --config_file f.yaml t.py --model_name_or_path m", files)
    edits = {
        "load_dtype": "bf16",
        "base_quantization": BaseQuantization(
            "nf4",
            True,
            compute_dtype="bf16",
            storage_dtype="bf16",
            upcast_unquantized_to_fp32="none",
        ),
        "adapter": Adapter(
            "lora", rank=16, alpha=32, dropout=0.0, targets="all-linear", dtype="bf16"
        ),
    }

    assert shlex.join(written(before, edits).argv[7:]) == (
        "--dtype bfloat16 --load_in_4bit true --use_bnb_nested_quant true"
        " --bnb_4bit_quant_storage bfloat16 --use_peft true --lora_r 16 --lora_alpha 32"
        " --lora_dropout 0.0 --lora_target_modules all-linear"
    )


@pytest.mark.parametrize("script", [TRAINER, LOOP, SFT.replace("ModelConfig", "Arguments")])
def test_an_adapter_needs_a_script_that_reads_trls_model_arguments(launch, script):
    files = {"f.yaml": FSDP2, "t.py": script}
    before = launch("accelerate launch --config_file f.yaml t.py --model_name_or_path m", files)

    assert write_launch(before, before.with_edits({"adapter": Adapter(rank=16)})) is None


def test_a_change_that_cannot_be_written_spoils_the_whole_rewrite(launch):
    before = launch(
        f"accelerate launch --config_file f.yaml t.py {BATCH}", {"f.yaml": FSDP2, "t.py": TRAINER}
    )
    edits = {"reshard_after_forward": True}

    assert write_launch(before, before.with_edits({**edits, "shard_degree": 4})) is None
    assert write_launch(before, before.with_edits({**edits, "attention": "eager"})) is None
    own = launch(
        "accelerate launch --config_file f.yaml t.py", {"f.yaml": FSDP2, "t.py": OWN_ARGUMENTS}
    )
    assert write_launch(own, own.with_edits({**edits, "gradient_accumulation_steps": 2})) is None


# The allocator


@pytest.mark.parametrize(
    ("env", "version", "wanted"),
    [
        ({}, "2.13.0", {"PYTORCH_ALLOC_CONF": "expandable_segments:True"}),
        ({}, "2.8.0", {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"}),
        (
            {"PYTORCH_CUDA_ALLOC_CONF": "max_split_size_mb:64,expandable_segments:False"},
            "2.13.0",
            {"PYTORCH_CUDA_ALLOC_CONF": "max_split_size_mb:64,expandable_segments:True"},
        ),
        (
            {"PYTORCH_ALLOC_CONF": "max_split_size_mb:64"},
            "2.13.0",
            {"PYTORCH_ALLOC_CONF": "max_split_size_mb:64,expandable_segments:True"},
        ),
    ],
)
def test_expandable_segments_join_what_the_allocator_was_told(launch, env, version, wanted):
    plan = launch(
        "accelerate launch --config_file f.yaml t.py", {"f.yaml": FSDP2, "t.py": TRAINER}, env
    )
    before = plan.with_edits({"versions": {**plan.versions, "torch": version}})
    rewrite = write_launch(before, before.with_edits({"expandable_segments": True}))

    assert dict(rewrite.env) == wanted


def test_cudas_own_allocator_has_no_expandable_segments(launch):
    env = {"PYTORCH_CUDA_ALLOC_CONF": "backend:cudaMallocAsync"}
    before = launch(
        "accelerate launch --config_file f.yaml t.py", {"f.yaml": FSDP2, "t.py": TRAINER}, env
    )

    assert write_launch(before, before.with_edits({"expandable_segments": True})) is None


# Copies


def test_two_files_of_one_name_get_two_copies(launch):
    files = {
        "a/run.json": ZERO3,
        "run.json": '{"per_device_train_batch_size": 8, "gradient_accumulation_steps": 2,'
        ' "bf16": true, "deepspeed": "a/run.json"}',
        "d.yaml": DDP,
        "t.py": TRAINER,
    }
    rewrite = written(launch("accelerate launch --config_file d.yaml t.py run.json", files), HALVED)
    names = [file.new_path_shown for file in rewrite.files]

    assert names == [".preflight/run.json", ".preflight/run-2.json"]
    assert json.loads(rewrite.files[1].after)["deepspeed"] == ".preflight/run.json"
    assert rewrite.argv[-1] == ".preflight/run-2.json"


def test_a_copy_that_another_launch_may_still_read_is_not_overwritten(launch, tmp_path):
    files = {"f.yaml": FSDP2, "t.py": TRAINER, ".preflight/f.yaml": "distributed_type: FSDP\n"}
    before = launch("accelerate launch --config_file f.yaml t.py", files)
    rewrite = written(before, {"reshard_after_forward": True})

    assert rewrite.files[0].new_path == str(tmp_path / ".preflight" / "f-2.yaml")
    (tmp_path / ".preflight" / "f-2.yaml").write_text(rewrite.files[0].after)
    assert written(before, {"reshard_after_forward": True}) == rewrite


def test_an_absolute_path_is_pointed_to_an_absolute_copy(launch, tmp_path):
    files = {"f.yaml": FSDP2, "t.py": TRAINER}
    before = launch(f"accelerate launch --config_file {tmp_path}/f.yaml t.py", files)
    rewrite = written(before, {"reshard_after_forward": True})

    assert rewrite.argv[3] == str(tmp_path / ".preflight" / "f.yaml")


# accelerate's own reading


def test_accelerates_own_parser_reads_the_copies_to_the_edited_values(
    launch, tmp_path, monkeypatch
):
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser

    files = {
        "f.yaml": FSDP2.replace("\n", "\r\n"),
        "t.py": TRAINER,
        "d.yaml": DEEPSPEED_FILE,
        "ds/zero.json": ZERO3,
    }
    fsdp = written(
        launch("accelerate launch --config_file f.yaml t.py", files),
        {"reshard_after_forward": True},
    )
    zero = written(
        launch(f"accelerate launch --config_file d.yaml t.py --bf16 {BATCH}", files), HALVED
    )
    for file in (*fsdp.files, *zero.files):
        (tmp_path / ".preflight").mkdir(exist_ok=True)
        (tmp_path / file.new_path_shown).write_bytes(file.after.encode())
    monkeypatch.chdir(tmp_path)

    def accelerate_reads(rewrite):
        args = launch_command_parser().parse_args(list(rewrite.argv[2:]))
        return _validate_launch_command(args)[0]

    assert accelerate_reads(fsdp).fsdp_reshard_after_forward is True
    assert accelerate_reads(fsdp).fsdp_version == 2
    named = accelerate_reads(zero).deepspeed_config_file
    assert json.loads((tmp_path / named).read_text())["train_micro_batch_size_per_gpu"] == 4
    assert yaml.safe_load((tmp_path / ".preflight/f.yaml").read_text())["num_processes"] == 8


def test_transformers_own_parser_takes_the_added_flags(launch, tmp_path):
    from transformers import HfArgumentParser
    from trl import ModelConfig, SFTConfig

    before = launch(
        "accelerate launch --config_file d.yaml t.py --model_name_or_path m --no_gradient_checkpointing",
        {"d.yaml": DDP, "t.py": SFT},
    )
    edits = {
        "sync_each_batch": True,
        "activation_checkpointing": "full",
        "gradient_accumulation_steps": 3,
        "optimizer": "adamw_bnb_8bit",
        "seq_len": 512,
        "adapter": Adapter("lora", rank=4, alpha=8, dropout=0.0, targets=("q_proj", "v_proj")),
    }
    rewrite = written(before, edits)
    flags = [*rewrite.argv[5:], "--output_dir", str(tmp_path), "--bf16", "false", "--use_cpu"]
    training, model = HfArgumentParser((SFTConfig, ModelConfig)).parse_args_into_dataclasses(flags)

    assert training.activation_checkpointing is True
    assert training.gradient_accumulation_steps == 3
    assert training.accelerator_config.gradient_accumulation_kwargs == {"sync_each_batch": True}
    assert training.optim == "adamw_bnb_8bit"
    assert training.max_length == 512
    assert (model.use_peft, model.lora_r, model.lora_alpha) == (True, 4, 8)
    assert model.lora_target_modules == ["q_proj", "v_proj"]
