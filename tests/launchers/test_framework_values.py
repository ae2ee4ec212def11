"""Whatever stands in a framework's config, its reader reads it or says what is wrong with it."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from framework_launches import CONFIGS, EIGHT

from preflight.errors import BadInput
from preflight.launch import LaunchCommand
from preflight.launchers.axolotl.cli import read_axolotl
from preflight.launchers.axolotl.plan import DECIDES as AXOLOTL
from preflight.launchers.llamafactory.cli import read_llamafactory
from preflight.launchers.llamafactory.plan import DECIDES as LLAMAFACTORY

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
            text = yaml.safe_dump({**given, key: value})
            overlay = {str(path): text}
            command = LaunchCommand((*words, path.name), EIGHT, str(path.parent), overlay)
            try:
                read(command)
            except BadInput as error:
                unnamed += [(key, value, p) for p in error.problems if not p.message or not p.id]

    assert unnamed == []
