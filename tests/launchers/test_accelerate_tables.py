"""The reader's tables beside the installed libraries that they were taken from."""

from __future__ import annotations

import argparse
from typing import Any

import pytest

from preflight.engines import deepspeed_keys
from preflight.launchers.accelerate import keys as accelerate_keys
from preflight.launchers.accelerate.options import DYNAMO_BACKENDS, OPTIONS

KINDS = {"_StoreTrueAction": "flag", "_StoreConstAction": "unset", "_AppendAction": "append"}
TYPES = {None: "str", str: "str", int: "int", float: "float", bool: "truthy"}
NOT_OPTIONS = ("help", "training_script", "training_script_args")


def installed_actions() -> list[argparse.Action]:
    from accelerate.commands.launch import launch_command_parser

    return [a for a in launch_command_parser()._actions if a.dest not in NOT_OPTIONS]


def kind_of(action: Any) -> str:
    if (name := type(action).__name__) in KINDS:
        return KINDS[name]
    if action.type in TYPES:
        return TYPES[action.type]
    return "bool" if action.type.__name__ == "str_to_bool" else "bools"


def test_options_are_those_of_the_installed_parser() -> None:
    theirs = {
        flag: (a.dest, kind_of(a), tuple(a.choices or ()))
        for a in installed_actions()
        for flag in a.option_strings
    }
    ours = {flag: (o.key, o.kind, o.choices) for o in OPTIONS for flag in o.flags}

    assert ours == theirs


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.flags[0])
def test_defaults_are_those_of_the_installed_parser(option: Any) -> None:
    action = next(a for a in installed_actions() if option.flags[0] in a.option_strings)

    assert option.kind == "unset" or option.default == action.default


def test_config_keys_are_those_of_the_installed_class() -> None:
    from accelerate.commands.config.config_args import ClusterConfig

    assert set(accelerate_keys.TOP_LEVEL_KEYS) == set(ClusterConfig.__dataclass_fields__)


def test_distributed_types_and_backends_are_the_installed_ones() -> None:
    from accelerate.utils import DistributedType, DynamoBackend

    assert {kind.value for kind in DistributedType} == set(accelerate_keys.DISTRIBUTED_TYPES)
    assert set(DYNAMO_BACKENDS) == set(DynamoBackend.list()) - {"NO"}


def test_keys_that_a_file_never_sets_have_a_default_that_is_not_none() -> None:
    defaults = {action.dest: action.default for action in installed_actions()}

    for key, default in accelerate_keys.NEVER_APPLIED_KEYS.items():
        assert defaults[key] == default
        assert default is not None


def test_look_alikes_are_unknown_and_point_to_known_keys() -> None:
    for section, names in accelerate_keys.LOOK_ALIKES.items():
        known = accelerate_keys.known_keys(section)
        for wrong, right in names.items():
            assert wrong not in known
            assert right in known


def test_zero_keys_are_those_of_the_installed_models() -> None:
    from deepspeed.runtime.zero.config import DeepSpeedZeroConfig
    from deepspeed.runtime.zero.offload_config import (
        DeepSpeedZeroOffloadOptimizerConfig,
        DeepSpeedZeroOffloadParamConfig,
    )

    fields = DeepSpeedZeroConfig.model_fields
    aliases = {field.alias: name for name, field in fields.items() if field.alias}

    assert set(deepspeed_keys.ZERO_KEYS) == set(fields)
    assert aliases == deepspeed_keys.ZERO_ALIASES
    assert set(deepspeed_keys.OFFLOAD_PARAM_KEYS) == set(
        DeepSpeedZeroOffloadParamConfig.model_fields
    )
    assert set(deepspeed_keys.OFFLOAD_OPTIMIZER_KEYS) == set(
        DeepSpeedZeroOffloadOptimizerConfig.model_fields
    )


def test_removed_keys_are_those_of_the_installed_deepspeed() -> None:
    from deepspeed.runtime import config

    assert set(deepspeed_keys.REMOVED_KEYS) == set(config._REMOVED_TOP_LEVEL_CONFIG_KEYS)
    assert set(deepspeed_keys.REMOVED_ZERO_KEYS) == set(config._REMOVED_ZERO_CONFIG_KEYS)


def test_size_defaults_are_deepspeeds_own() -> None:
    from deepspeed.runtime.zero.config import DeepSpeedZeroConfig

    from preflight.launch import DeepSpeedSettings

    ours, theirs = DeepSpeedSettings(), DeepSpeedZeroConfig()
    for name, spellings in {**deepspeed_keys.INT_SETTINGS, **deepspeed_keys.BOOL_SETTINGS}.items():
        if name != "overlap_comm":  # None: by stage
            field = deepspeed_keys.ZERO_ALIASES.get(spellings[0], spellings[0])
            assert getattr(ours, name) == getattr(theirs, field)
