"""Whatever stands in a framework's config, its reader reads it or says what is wrong with it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from framework_launches import CONFIGS, EIGHT

from preflight.errors import BadInput
from preflight.launch import LaunchCommand, LaunchPlan
from preflight.launchers.axolotl.cli import read_axolotl
from preflight.launchers.axolotl.plan import DECIDES as AXOLOTL
from preflight.launchers.litgpt.plan import read_litgpt
from preflight.launchers.llamafactory.cli import read_llamafactory
from preflight.launchers.llamafactory.plan import DECIDES as LLAMAFACTORY
from preflight.launchers.torchtitan.cli import read_torchtitan
from preflight.launchers.torchtune.cli import read_torchtune
from preflight.plugins import load_plugins

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
"""In C where it is there: some thousand configs are written."""
VALUES: tuple[Any, ...] = (
    None,
    [],
    {},
    "x",
    "",
    -1,
    3.5,
    True,
    {"a": {"b": 1}},
    ["x", 1, None],
    "1e400",
    10**30,
)
LAUNCHES = {
    "axolotl/lora.yaml": (("axolotl", "train"), read_axolotl, AXOLOTL),
    "axolotl/qlora_fsdp2.yaml": (("axolotl", "train"), read_axolotl, AXOLOTL),
    "llamafactory/qlora.yaml": (("lmf", "train"), read_llamafactory, LLAMAFACTORY),
    "llamafactory/full_zero2.yaml": (("lmf", "train"), read_llamafactory, LLAMAFACTORY),
}


@pytest.mark.parametrize("config", LAUNCHES)
def test_no_value_stops_a_reader_without_a_word(config: str) -> None:
    words, read, decides = LAUNCHES[config]
    path = CONFIGS / config
    given = yaml.safe_load(path.read_text())
    unnamed = []
    for key in dict.fromkeys((*given, *decides)):
        for value in VALUES:
            text = yaml.dump({**given, key: value}, Dumper=DUMPER)
            overlay = {str(path): text}
            command = LaunchCommand((*words, path.name), EIGHT, str(path.parent), overlay)
            try:
                read(command)
            except BadInput as error:
                unnamed += [(key, value, p) for p in error.problems if not p.message or not p.id]

    assert unnamed == []


SECTIONS = {
    "torchtitan/llama_8b.toml": (
        ("torchrun", "--nproc_per_node=8", "-m", "torchtitan.train", "--job.config_file"),
        read_torchtitan,
    ),
    "torchtitan/offload.toml": (
        ("torchrun", "--nproc_per_node=8", "-m", "torchtitan.train", "--job.config_file"),
        read_torchtitan,
    ),
    "torchtune/full_8b.yaml": (
        ("tune", "run", "--nproc_per_node", "8", "full_finetune_distributed", "--config"),
        read_torchtune,
    ),
    "torchtune/qlora_8b.yaml": (
        ("tune", "run", "lora_finetune_single_device", "--config"),
        read_torchtune,
    ),
    "litgpt/lora.yaml": (("litgpt", "finetune_lora", "x", "--config"), read_litgpt),
    "litgpt/pretrain.yaml": (("litgpt", "pretrain", "--config"), read_litgpt),
}
"""Configs with sections: every value of every one is replaced, attack D3 being a list in one of them."""


@pytest.mark.parametrize("config", SECTIONS)
def test_no_value_in_a_section_stops_a_reader_without_a_word(config: str) -> None:
    words, read = SECTIONS[config]
    path = CONFIGS / config
    is_toml = config.endswith(".toml")
    given = tomllib.loads(path.read_text()) if is_toml else yaml.safe_load(path.read_text())
    unnamed = []
    for place in places_of(given):
        for value in (*VALUES, "9" * 400):
            if is_toml and not isinstance(value, (str, int, float, list)):
                continue
            changed = with_value(given, place, value)
            text = toml_of(changed) if is_toml else yaml.dump(changed, Dumper=DUMPER)
            command = LaunchCommand((*words, path.name), EIGHT, str(path.parent), {str(path): text})
            try:
                read(command)
            except BadInput as error:
                unnamed += [(place, value, p) for p in error.problems if not p.message]

    assert unnamed == []


def places_of(value: Any, place: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Return where every value of a mapping and of those in it stands, the mappings too."""
    if not isinstance(value, dict):
        return [place]
    inner = [found for key, item in value.items() for found in places_of(item, (*place, key))]
    return [*([place] if place else []), *inner]


def with_value(whole: dict[str, Any], place: tuple[str, ...], value: Any) -> dict[str, Any]:
    name, *rest = place
    return {**whole, name: with_value(whole[name], tuple(rest), value) if rest else value}


def toml_of(whole: dict[str, Any]) -> str:
    plain = [
        f"{key} = {json.dumps(item)}" for key, item in whole.items() if not isinstance(item, dict)
    ]
    tables = [
        f"[{key}]\n" + "".join(f"{name} = {json.dumps(held)}\n" for name, held in item.items())
        for key, item in whole.items()
        if isinstance(item, dict)
    ]
    return "\n".join([*plain, *tables]) + "\n"


ELSEWHERE = {"VIRTUAL_ENV": "/env/of/the/cluster"}
"""Names an environment that no machine of the tests has."""
TRAINERS = {
    "llamafactory": (
        "llamafactory-cli train full.yaml",
        "model_name_or_path: meta-llama/Llama-3.1-8B\nstage: sft\nfinetuning_type: full\nbf16: true\n",
    ),
    "swift": (
        "swift sft --model meta-llama/Llama-3.1-8B --tuner_type full --dataset rows.jsonl",
        "",
    ),
}
"""Frameworks that leave an optimizer that nobody names to transformers' Trainer."""


@pytest.mark.parametrize("framework", TRAINERS)
@pytest.mark.parametrize(
    ("pins", "optimizer"),
    [
        ("transformers==4.53.3\ntorch==2.9.1\n", "adamw_torch"),
        ("transformers==4.57.3\ntorch==2.7.1\n", "adamw_torch"),
        ("transformers==4.57.3\ntorch==2.9.1\n", "adamw_torch_fused"),
    ],
)
def test_an_optimizer_that_nobody_names_is_that_of_the_trainers_release(
    framework: str, pins: str, optimizer: str, tmp_path: Path
) -> None:
    command, config = TRAINERS[framework]
    (tmp_path / "full.yaml").write_text(config)
    (tmp_path / "requirements.txt").write_text(pins)
    plan = plan_of(tmp_path, command)

    assert plan.optimizer == optimizer


@pytest.mark.parametrize("framework", TRAINERS)
def test_releases_that_nobody_names_may_have_another_optimizer(
    framework: str, tmp_path: Path
) -> None:
    command, config = TRAINERS[framework]
    (tmp_path / "full.yaml").write_text(config)
    plan = plan_of(tmp_path, command)
    others = {each.fields.get("optimizer", plan.optimizer) for each in plan.version_readings}

    assert others | {plan.optimizer} == {"adamw_torch", "adamw_torch_fused"}


def plan_of(folder: Path, command: str) -> LaunchPlan:
    plan = load_plugins().first(
        "preflight_read_launch",
        command=LaunchCommand(tuple(command.split()), ELSEWHERE, str(folder)),
    )
    assert isinstance(plan, LaunchPlan)
    return plan
