"""The reader's tables beside the installed libraries that they were taken from."""

from __future__ import annotations

from preflight.derive.target import read
from preflight.engines import deepspeed_keys
from preflight.launchers.accelerate import keys as accelerate_keys
from preflight.launchers.accelerate.argv import OPTIONS


def test_options_are_those_of_the_installed_launchers() -> None:
    from preflight.derive.tables.launcher_options import PATH, files

    assert dict(files(print)) == {PATH: read(PATH)}


def test_config_keys_are_those_of_the_installed_class() -> None:
    from accelerate.commands.config.config_args import ClusterConfig

    assert set(accelerate_keys.TOP_LEVEL_KEYS) == set(ClusterConfig.__dataclass_fields__)


def test_distributed_types_and_backends_are_the_installed_ones() -> None:
    from accelerate.utils import DistributedType, DynamoBackend

    assert {kind.value for kind in DistributedType} == set(accelerate_keys.DISTRIBUTED_TYPES)
    assert set(accelerate_keys.DYNAMO_BACKENDS) == set(DynamoBackend.list()) - {"NO"}


def test_keys_that_a_file_never_sets_have_a_default_that_is_not_none() -> None:
    defaults = {option.key: option.default for option in OPTIONS}

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
