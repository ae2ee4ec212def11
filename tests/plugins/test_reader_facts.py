"""A reader of somebody else's: what it learned of ranks, script, trainer and engine reaches preflight's own checks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from preflight.launch import LaunchCommand
from preflight.pipeline import check_launch
from preflight.plugins import load_plugins
from preflight.request import Request

READER = '''\
"""Reads `ourtrain CASE`: the plan and the facts of that case."""

from __future__ import annotations

from preflight.hookspecs import hookimpl
from preflight.launch import (
    Adapter, BaseQuantization, EngineFacts, LaunchPlan, RankFacts, ScriptFacts, TrainerFacts,
)
from preflight.setting import Place, Setting

TINY = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 64,
    "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 256, "max_position_embeddings": 256,
}


def flag(name, value):
    return Setting(value, Place("argv", "", f"--{name}"))


def arguments(**given):
    return {name: flag(name, value) for name, value in given.items()}


ZERO3 = {"engine": "zero3", "world_size": 2, "shard_degree": 2, "mixed_precision": "bf16"}
TRL = {"trainer": "trl", "versions": {"trl": "1.16.0", "transformers": "5.24.0"}}
CASES = {
    "device_map": (
        ZERO3, {"script_facts": ScriptFacts(device_map=flag("device_map", "auto"))},
    ),
    "optimizers": (
        ZERO3,
        {
            "trainer_facts": TrainerFacts(arguments=arguments(optim="adafactor")),
            "engine_facts": EngineFacts(deepspeed_optimizer="AdamW"),
        },
    ),
    "no_adapter": (
        {"trainer": "trl", "base_quantization": BaseQuantization()},
        {"script_facts": ScriptFacts(is_of_library=True)},
    ),
    "groups": (
        {**TRL, "micro_batch_size": 3},
        {"trainer_facts": TrainerFacts("grpo", arguments(num_generations=2))},
    ),
    "packing": (
        {**TRL, "seq_len": None},
        {
            "script_facts": ScriptFacts(is_of_library=True),
            "trainer_facts": TrainerFacts(arguments=arguments(packing=True)),
        },
    ),
    "unused": (
        {
            "engine": "ddp", "world_size": 2, "trainer": "transformers",
            "activation_checkpointing": "full", "checkpointing_reentrant": True,
        },
        {"trainer_facts": TrainerFacts(arguments=arguments(ddp_find_unused_parameters=True))},
    ),
    "devices": (
        {"engine": "ddp", "world_size": 4}, {"rank_facts": RankFacts(gpu_ids=flag("gpus", "0,1"))},
    ),
    "hosts": (
        {"engine": "ddp", "world_size": 6, "num_nodes": 2},
        {"rank_facts": RankFacts(ranks_by_host={"a": 4, "b": 2})},
    ),
    "masks": (
        {
            "engine": "fsdp2", "world_size": 2, "shard_degree": 2, "trainer": "transformers",
            "activation_checkpointing": "full", "adapter": Adapter(dropout=0.1),
        },
        {"engine_facts": EngineFacts(fsdp_checkpoints=True)},
    ),
    "frozen": (
        {
            "trainer": "transformers", "versions": {"transformers": "4.48.0"},
            "activation_checkpointing": "full", "adapter": Adapter(),
        },
        {"script_facts": ScriptFacts(index=2)},
    ),
}
frozen, facts = CASES["frozen"]
CASES["packed"] = ({**frozen, "base_quantization": BaseQuantization(scheme="int8")}, facts)


@hookimpl
def preflight_read_launch(command):
    if command.argv[0] != "ourtrain":
        return None
    values, facts = CASES[command.argv[1]]
    if "--no-facts" in command.argv:
        facts = {}
    values = {"model_config": TINY, "micro_batch_size": 1, "seq_len": 64, **values}
    return LaunchPlan(**values, launcher="ourtrain", command=command, **facts)
'''


@pytest.fixture
def findings(tmp_path: Path) -> Callable[..., dict[str, str]]:
    """Id -> where of everything found in a launch by the reader of a project file."""
    (tmp_path / "preflight_hooks.py").write_text(READER)
    (tmp_path / "train.py").write_text("import torch\n")
    plugins = load_plugins(str(tmp_path))

    def found(*words: str) -> dict[str, str]:
        command = LaunchCommand(("ourtrain", *words), {}, str(tmp_path))
        report = check_launch(command, plugins, Request(device="h100-sxm-80"))
        return {finding.id: finding.where for finding in report.findings}

    return found


@pytest.mark.parametrize(
    ("case", "finding", "where"),
    [
        ("device_map", "PF313", "--device_map"),
        ("optimizers", "PF317", "--optim"),
        ("no_adapter", "PF416", ""),
        ("groups", "PF437", "--num_generations"),
        ("packing", "PF441", "--packing"),
        ("unused", "PF429", "--ddp_find_unused_parameters"),
        ("devices", "PF119", ""),
        ("hosts", "PF139", ""),
        ("masks", "PF204", ""),
        ("frozen", "PF428", ""),
    ],
)
def test_a_check_finds_what_the_reader_of_a_plugin_says(findings, case, finding, where):
    told, untold = findings(case, "train.py"), findings(case, "train.py", "--no-facts")

    assert told[finding] == where
    assert finding not in untold


@pytest.mark.parametrize(
    ("case", "call", "is_named"),
    [
        ("frozen", "model.enable_input_require_grads()", False),
        ("frozen", "model = prepare_model_for_kbit_training(model)", True),
        ("packed", "model = prepare_model_for_kbit_training(model)", False),
        ("packed", "model = prepare_model_for_int8_training(model)", False),
        ("packed", "pass", True),
    ],
)
def test_what_an_imported_file_calls_is_called(findings, tmp_path, case, call, is_named):
    (tmp_path / "train.py").write_text("from loop import main\n\nmain()\n")
    (tmp_path / "loop.py").write_text(f"import torch\n\n\ndef main(model=None):\n    {call}\n")

    assert ("PF428" in findings(case, "train.py")) is is_named


def test_a_fact_that_nobody_declares_is_refused_by_name():
    from preflight.launch import ScriptFacts

    with pytest.raises(TypeError, match="devicemap"):
        ScriptFacts(devicemap=None)
