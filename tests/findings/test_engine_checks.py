"""Checks of FSDP and DeepSpeed fire on what they name, and on no launch that the libraries take."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from some_plugins import plugins_of
from tiny_llama import TINY_LLAMA

from preflight.errors import BadInput
from preflight.findings import kind_of
from preflight.launch import Adapter, BaseQuantization, DeepSpeedSettings, LaunchCommand, LaunchPlan
from preflight.models import describe
from preflight.models.families.library_defaults import library_defaults
from preflight.rewriting import read_launch

CONFIGS = Path(__file__).parent.parent / "configs"
CASES = yaml.safe_load((CONFIGS / "manifest.yaml").read_text())
FSDP = {"world_size": 8, "shard_degree": 8, "wrap_policy": "transformer"}
TRAINER = """\
from transformers import HfArgumentParser, Trainer, TrainingArguments

HfArgumentParser(TrainingArguments)
"""
FSDP_FILE = """\
distributed_type: FSDP
num_processes: 8
mixed_precision: bf16
fsdp_config:
  fsdp_version: {version}
  fsdp_auto_wrap_policy: TRANSFORMER_BASED_WRAP
"""


@pytest.fixture(scope="module")
def plugins():
    return plugins_of("check_", "read_", "model_")


def ids(plugins, plan: LaunchPlan, config=TINY_LLAMA) -> list[str]:
    """Return what is found about engine and training; what is installed here is not asked."""
    model = describe(config, "tiny", "test") if config else None
    found = plugins.collect("preflight_findings", plan=plan, model=model, device=None)
    return sorted(finding.id for _, finding in found if finding.id[2] in "234")


def read(plugins, folder: Path, words: str, files: dict[str, str]) -> LaunchPlan:
    """Return the plan of a command in a folder with these files."""
    for name, text in files.items():
        (folder / name).write_text(text)
    plan = read_launch(LaunchCommand(tuple(words.split()), {}, str(folder)), plugins)
    assert plan is not None
    return plan


def refused(plugins, folder: Path, words: str, files: dict[str, str]) -> list[tuple[str, str]]:
    with pytest.raises(BadInput) as error:
        read(plugins, folder, words, files)
    return [(p.id, p.where) for p in error.value.problems if p.severity == "error"]


# Wrapping


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        (("LlamaDecoderLayer",), []),
        (("LlamaMLP",), []),
        (("MyBlock",), []),
        (("GPT2Block",), ["PF206"]),
        (("LlamaDecoderlayer",), ["PF206"]),
        (("LlamaDecoderLayer", "Qwen2DecoderLayer"), ["PF206"]),
        (None, []),
    ],
)
def test_a_class_of_another_architecture_is_named(plugins, named, expected):
    """A class that nobody knows may be one of somebody's own."""
    plan = LaunchPlan(engine="fsdp2", wrap_classes=named, **FSDP)

    assert ids(plugins, plan) == expected


@pytest.mark.parametrize(
    ("engine", "least", "expected"),
    [
        ("fsdp2", 1000, ["PF211"]),
        ("fsdp2", 10**9, []),
        ("fsdp1", 1000, []),
        ("fsdp1", 10**6, ["PF202"]),
    ],
)
def test_wrapping_by_size_is_held_against_the_layers(plugins, engine, least, expected):
    plan = LaunchPlan(
        engine=engine, **{**FSDP, "wrap_policy": "size", "wrap_min_num_params": least}
    )

    assert ids(plugins, plan) == expected


@pytest.mark.parametrize(
    ("model_type", "engine", "versions", "expected"),
    [
        ("t5", "fsdp2", {}, ["PF224"]),
        ("t5", "fsdp1", {}, []),
        ("t5", "fsdp2", {"transformers": "4.57.1"}, []),
        ("bart", "fsdp2", {"transformers": "4.57.1"}, ["PF224"]),
        ("bart", "fsdp2", {"accelerate": "1.13.0"}, []),
        ("pegasus", "fsdp2", {"torch": "2.12.0"}, []),
        ("llama", "fsdp2", {}, []),
    ],
)
def test_shared_words_are_held_against_releases(plugins, model_type, engine, versions, expected):
    """PF224: 4.57.1 was run with accelerate 1.15 and torch 2.13 too, where T5 starts and BART does not."""
    plan = LaunchPlan(engine=engine, trainer="transformers", versions=versions, **FSDP)
    sizes = {"d_model": 64, "d_ff": 128, "d_kv": 16, "num_heads": 4, "num_layers": 2}
    t5 = describe({**sizes, "vocab_size": 256, "model_type": "t5"}, "tiny", "test")
    model = replace(t5, model_type=model_type)
    found = plugins.collect("preflight_findings", plan=plan, model=model, device=None)

    assert [each.id for _, each in found if each.id == "PF224"] == expected


# A base that does not train


@pytest.mark.parametrize(
    ("engine", "storage", "precision", "expected"),
    [
        ("fsdp1", "bf16", "bf16", ["PF223"]),
        ("fsdp1", "bf16", "fp16", ["PF214", "PF223"]),
        ("fsdp1", "fp16", "bf16", ["PF223", "PF418"]),
        ("fsdp2", None, "bf16", ["PF403"]),
        ("fsdp2", "bf16", "bf16", []),
        ("fsdp2", "fp16", "bf16", ["PF214"]),
        ("fsdp2", "bf16", "no", []),
        ("zero3", "bf16", "fp16", ["PF419"]),
        ("ddp", "fp16", "bf16", []),
    ],
)
def test_packed_weights_are_held_against_the_compute_dtype(
    plugins, engine, storage, precision, expected
):
    plan = LaunchPlan(
        engine=engine,
        base_quantization=BaseQuantization("nf4", storage_dtype=storage),
        adapter=Adapter(targets="all-linear"),
        load_dtype="bf16",
        mixed_precision=precision,
        **FSDP,
    )

    assert ids(plugins, plan) == expected


LOOP = """\
import torch
from accelerate import Accelerator
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

accelerator = Accelerator()
model = AutoModelForCausalLM.from_pretrained("m", dtype=torch.{dtype})
model = get_peft_model(model, LoraConfig(r=8, target_modules="all-linear"))
{policy}
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
model, optimizer = accelerator.prepare(model, optimizer)
"""
POLICY = "accelerator.state.fsdp_plugin.auto_wrap_policy = fsdp_auto_wrap_policy(model)"


@pytest.mark.parametrize(
    ("version", "dtype", "policy", "orig", "expected"),
    [
        (1, "bfloat16", "", "true", ["PF215", "PF223"]),
        (1, "bfloat16", POLICY, "true", ["PF223"]),
        (1, "float32", "", "true", ["PF223"]),
        (1, "float32", "", "false", ["PF216", "PF223"]),
        (2, "bfloat16", "", "true", []),
    ],
)
def test_adapters_in_a_flat_parameter_are_named(
    plugins, tmp_path, version, dtype, policy, orig, expected
):
    config = FSDP_FILE.format(version=version) + f"  fsdp_use_orig_params: {orig}\n"
    files = {"c.yaml": config, "train.py": LOOP.format(dtype=dtype, policy=policy)}
    plan = read(plugins, tmp_path, "accelerate launch --config_file c.yaml train.py", files)

    assert plan.adapter is not None
    assert ids(plugins, plan) == expected


def test_a_policy_that_an_imported_file_sets_is_set(plugins, tmp_path):
    helper = f"def apart(accelerator, model):\n    {POLICY}\n"
    script = "from helper import apart\n" + LOOP.format(
        dtype="bfloat16", policy="apart(accelerator, model)"
    )
    files = {"c.yaml": FSDP_FILE.format(version=1), "train.py": script, "helper.py": helper}
    plan = read(plugins, tmp_path, "accelerate launch --config_file c.yaml train.py", files)

    assert plan.adapter is not None
    assert ids(plugins, plan) == ["PF223"]


# Steps


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"engine": "fsdp2", "optimizer": "adamw_bnb_8bit"}, ["PF217"]),
        ({"engine": "fsdp2", "optimizer": "lion_32bit"}, ["PF217"]),
        ({"engine": "fsdp2", "optimizer": "adamw_torch_fused"}, []),
        ({"engine": "fsdp1", "optimizer": "adamw_bnb_8bit"}, []),
        ({"engine": "fsdp1", "gradient_accumulation_steps": 4}, ["PF221"]),
        ({"engine": "fsdp2", "gradient_accumulation_steps": 4, "sync_each_batch": True}, []),
        (
            {
                "engine": "fsdp1",
                "gradient_accumulation_steps": 4,
                "sync_each_batch": True,
                "offload_params": "cpu",
            },
            ["PF218"],
        ),
        (
            {"engine": "fsdp2", "mixed_precision": "fp16", "versions": {"accelerate": "1.15.0"}},
            ["PF222"],
        ),
        ({"engine": "fsdp2", "mixed_precision": "fp16", "versions": {"accelerate": "1.16.0"}}, []),
        ({"engine": "fsdp1", "mixed_precision": "fp16"}, []),
        ({"engine": "ddp", "gradient_accumulation_steps": 4}, []),
    ],
)
def test_optimizer_and_accumulation_are_held_against_the_version(plugins, fields, expected):
    assert ids(plugins, LaunchPlan(load_dtype="fp32", **FSDP, **fields)) == expected


# Checkpoints and DeepSpeed

ZERO3 = {"zero_optimization": {"stage": 3}, "bf16": {"enabled": "auto"}}
GATHERS = {
    **ZERO3,
    "zero_optimization": {"stage": 3, "stage3_gather_16bit_weights_on_model_save": True},
}


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("", []),
        ("--save_only_model", ["PF220"]),
        ("--save_only_model --load_best_model_at_end --eval_strategy steps", ["PF220", "PF445"]),
        ("--load_best_model_at_end --eval_strategy steps", []),
    ],
)
def test_saving_under_fsdp_is_held_against_the_engine(plugins, tmp_path, flags, expected):
    files = {"c.yaml": FSDP_FILE.format(version=2), "train.py": TRAINER}
    words = f"accelerate launch --config_file c.yaml train.py --bf16 {flags}"

    assert ids(plugins, read(plugins, tmp_path, words, files)) == expected


@pytest.mark.parametrize(
    ("config", "flags", "expected"),
    [
        (ZERO3, "", ["PF316"]),
        (ZERO3, "--save_strategy no", []),
        (GATHERS, "", []),
        (GATHERS, "--save_only_model --load_best_model_at_end --eval_strategy steps", ["PF445"]),
        (GATHERS, "--auto_find_batch_size", ["PF432"]),
    ],
)
def test_saving_is_held_against_the_engine(plugins, tmp_path, config, flags, expected):
    files = {"ds.json": json.dumps(config), "train.py": TRAINER}
    words = f"torchrun --nproc-per-node 8 train.py --deepspeed ds.json --bf16 {flags}"

    assert ids(plugins, read(plugins, tmp_path, words, files)) == expected


OFFLOADED = {"zero_optimization": {"stage": 2, "offload_optimizer": {"device": "cpu"}}}


@pytest.mark.parametrize(
    ("config", "flags", "expected"),
    [
        ({"zero_optimization": {"stage": 2}, "optimizer": {"type": "AdamW"}}, "--optim adafactor", ["PF317"]),
        ({"zero_optimization": {"stage": 2}, "optimizer": {"type": "AdamW"}}, "", []),
        (OFFLOADED, "--optim adamw_bnb_8bit --weight_decay 0.1", ["PF319"]),
        (OFFLOADED, "--optim adamw_bnb_8bit", []),
        (OFFLOADED, "--optim adamw_torch --weight_decay 0.1", []),
    ],
)  # fmt: skip
def test_optimizers_are_held_against_the_deepspeed_file(plugins, tmp_path, config, flags, expected):
    files = {"ds.json": json.dumps(config), "train.py": TRAINER}
    words = f"torchrun --nproc-per-node 8 train.py --deepspeed ds.json {flags}"

    assert ids(plugins, read(plugins, tmp_path, words, files)) == expected


@pytest.mark.parametrize(
    ("engine", "dtype", "expected"),
    [("zero0", "fp32", ["PF318"]), ("zero0", None, []), ("zero1", "fp32", [])],
)
def test_accumulation_in_fp32_needs_a_stage(plugins, engine, dtype, expected):
    settings = DeepSpeedSettings(grad_accum_dtype=dtype)
    plan = LaunchPlan(engine=engine, world_size=8, mixed_precision="bf16", deepspeed=settings)

    assert ids(plugins, plan) == expected


LOADING = (
    TRAINER
    + """\
from transformers import AutoModelForCausalLM

args = HfArgumentParser(TrainingArguments).parse_args_into_dataclasses()[0]
model = AutoModelForCausalLM.from_pretrained("m"{more})
"""
)


def test_a_device_map_under_zero3_is_named(plugins, tmp_path):
    files = {"ds.json": json.dumps(GATHERS), "train.py": LOADING.format(more="")}
    words = "torchrun --nproc-per-node 8 train.py --deepspeed ds.json --bf16"
    assert ids(plugins, read(plugins, tmp_path, words, files), None) == []
    files["train.py"] = LOADING.format(more=', device_map="auto"')

    assert "PF313" in ids(plugins, read(plugins, tmp_path, words, files), None)


ORDER = """\
import torch
from accelerate import Accelerator, PartialState
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

{load}
def main():
{body}

main()
"""
ARGUMENTS = 'args = TrainingArguments("out", bf16=True)'
RANK = '{"": PartialState().process_index}'
LOADED = 'model = AutoModelForCausalLM.from_pretrained("m", device_map=MAP)'


@pytest.mark.parametrize(
    ("body", "severity"),
    [
        ([ARGUMENTS, LOADED.replace("MAP", RANK)], "error"),
        ([LOADED.replace("MAP", RANK), ARGUMENTS], None),
        ([f"model = load({RANK})", ARGUMENTS], None),
        ([ARGUMENTS, f"model = load({RANK})"], "error"),
        ([f"Trainer(load({RANK}), args=TrainingArguments('out'))"], None),
        (["accelerator = Accelerator()", LOADED.replace("MAP", "accelerator.device")], "error"),
        ([LOADED.replace("MAP", "'auto'"), "accelerator = Accelerator()"], None),
        ([ARGUMENTS, LOADED.replace("MAP", "None")], None),
        ([ARGUMENTS, LOADED.replace("MAP", "pick() if pick() else None")], None),
        ([ARGUMENTS, LOADED.replace("MAP", "pick()")], None),
        ([f"if pick():\n        {ARGUMENTS}", LOADED.replace("MAP", "'auto'")], "warning"),
        ([LOADED.replace("MAP", "'auto'")], None),
    ],
)
def test_a_device_map_is_refused_once_transformers_knows_of_zero3(
    plugins, tmp_path, body, severity
):
    """`test_zero3_refuses_a_device_map` shows both: the same map is taken before a DeepSpeedPlugin is made."""
    load = (
        f"def load(map):\n    return {LOADED[8:].replace('MAP', 'map')}\n"
        if "load(" in str(body)
        else ""
    )
    files = {
        "ds.json": json.dumps(GATHERS),
        "train.py": ORDER.format(load=load, body="\n".join(f"    {line}" for line in body)),
    }
    words = "accelerate launch --num_processes 8 --use_deepspeed --deepspeed_config_file ds.json train.py"
    plan = read(plugins, tmp_path, words, files)
    found = plugins.collect("preflight_findings", plan=plan, model=None, device=None)

    assert [f.severity for _, f in found if f.id == "PF313"] == ([severity] if severity else [])


OWN_ENGINE = """\
import argparse
import deepspeed

parser = deepspeed.add_config_arguments(argparse.ArgumentParser())
args = parser.parse_args()
engine, *_ = deepspeed.initialize(args=args, model=model)
"""


def test_autos_of_a_script_with_its_own_engine_are_named(plugins, tmp_path):
    """A script that says auto itself fills it, and so does accelerate."""
    config = {"train_micro_batch_size_per_gpu": "auto", "zero_optimization": {"stage": "auto"}}
    files = {"ds.json": json.dumps(config), "train.py": OWN_ENGINE}
    words = "deepspeed --num_gpus 8 train.py --deepspeed --deepspeed_config ds.json"
    assert ids(plugins, read(plugins, tmp_path, words, files)) == ["PF311", "PF311"]
    for filled in ("from accelerate import Accelerator\n", "config['x'] = 1  # no auto is left\n"):
        files["train.py"] = filled + OWN_ENGINE

        assert ids(plugins, read(plugins, tmp_path, words, files)) == []


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ({"train_batch_size": 64, "train_micro_batch_size_per_gpu": 2, "gradient_accumulation_steps": 4}, []),
        ({"train_batch_size": 32, "train_micro_batch_size_per_gpu": 2, "gradient_accumulation_steps": 4}, ["PF310"]),
        ({"train_batch_size": 64, "train_micro_batch_size_per_gpu": 2}, []),
        ({"train_batch_size": 60, "train_micro_batch_size_per_gpu": 2}, ["PF310"]),
        ({"train_batch_size": 64}, []),
        ({"train_micro_batch_size_per_gpu": 2}, []),
    ],
)  # fmt: skip
def test_batch_sizes_of_a_deepspeed_file_are_multiplied(plugins, tmp_path, sizes, expected):
    files = {
        "ds.json": json.dumps({**sizes, "zero_optimization": {"stage": 2}}),
        "train.py": OWN_ENGINE,
    }
    words = "deepspeed --num_gpus 8 train.py --deepspeed --deepspeed_config ds.json"
    if expected:
        assert [id for id, _ in refused(plugins, tmp_path, words, files)] == expected
    else:
        assert read(plugins, tmp_path, words, files).world_size == 8


# Readers


def test_readers_name_what_the_plugin_refuses(plugins, tmp_path):
    """Each with an id of its own, at its line."""
    config = FSDP_FILE.format(version=2).replace("TRANSFORMER_BASED_WRAP", "NO_WRAP")
    config += "  fsdp_activation_checkpointing: true\n  fsdp_reshard_after_forward: SHARD_GRAD_OP\n"
    config += "  fsdp_state_dict_type: LOCAL_STATE_DICT\n"
    files = {"c.yaml": config, "train.py": TRAINER}

    assert refused(plugins, tmp_path, "accelerate launch --config_file c.yaml train.py", files) == [
        ("PF207", "c.yaml:7"),
        ("PF208", "c.yaml:8"),
        ("PF209", "c.yaml:9"),
    ]


def test_readers_name_what_deepspeed_refuses(plugins, tmp_path):
    config = {
        "zero_optimization": {"stage": 2, "offload_optimizer": {"device": "cpu", "ratio": 0.5}}
    }
    files = {"ds.json": json.dumps(config, indent=1), "train.py": TRAINER}
    words = "torchrun --nproc-per-node 8 train.py --deepspeed ds.json"

    assert refused(plugins, tmp_path, words, files) == [("PF314", "ds.json:6")]


def test_the_launcher_refuses_efficient_loading_without_sync():
    """accelerate's own launcher, on its own namespace."""
    from accelerate.commands.launch import launch_command_parser
    from accelerate.utils.launch import prepare_multi_gpu_env

    arguments = launch_command_parser().parse_args(["--use_fsdp", "train.py"])
    arguments.num_processes, arguments.num_machines, arguments.mixed_precision = 2, 1, "bf16"
    arguments.dynamo_backend = "no"
    arguments.fsdp_cpu_ram_efficient_loading, arguments.fsdp_sync_module_states = True, False
    with pytest.raises(ValueError, match="--fsdp_sync_module_states"):
        prepare_multi_gpu_env(arguments)


def test_bf16_auto_without_the_flag_is_said(plugins, tmp_path):
    """PF306: whether or not the launcher says bf16."""
    files = {"ds.json": json.dumps(GATHERS), "train.py": TRAINER}
    words = "torchrun --nproc-per-node 8 train.py --deepspeed ds.json"
    silent = read(plugins, tmp_path, words, files)
    told = read(plugins, tmp_path, f"{words} --bf16", files)

    assert silent.mixed_precision == "no" and told.mixed_precision == "bf16"
    assert [notice.id for notice in silent.notices] == ["PF306"]
    assert told.notices == ()


# No false alarms


@pytest.mark.parametrize("name", [name for name in CASES if "starts" in CASES[name]])
def test_no_launch_that_starts_has_an_error(plugins, name):
    """test_parity_accelerate.py has accelerate start them; with no model, and with one that has the wrapped class."""
    case = CASES[name]
    command = LaunchCommand(
        ("accelerate", "launch", *case["argv"].split()),
        {**os.environ, **case.get("env", {})},
        str(CONFIGS),
    )
    plan = read_launch(command, plugins)
    assert plan is not None
    named = set(plan.wrap_classes or ())
    kinds = [
        kind for kind, classes in library_defaults().layer_classes.items() if named & set(classes)
    ]
    kind = min(kinds, key=len, default="llama")  # not a composite with that decoder in it
    for model in (None, describe({**TINY_LLAMA, "model_type": kind}, "tiny", "test")):
        asked = {"plan": plan, "model": model, "device": None}
        found = [f for _, f in plugins.collect("preflight_findings", **asked)]
        errors = [f for f in (*plan.notices, *found) if f.severity == "error"]

        # Devices are a fact of a machine: one case names two GPUs for eight ranks.
        assert [f for f in errors if kind_of(f.id).proof_kind != "node"] == []
