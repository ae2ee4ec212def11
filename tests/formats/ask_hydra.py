"""Asks Hydra what it composes of tests/formats/hydra; run by hand where hydra-core is installed.

`python tests/formats/ask_hydra.py` writes for every case the values that Hydra gives, `???` where one is missing.
"""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "hydra"
ANSWERS = FOLDER / "cases.json"
CASES = (
    "config",
    "config model=qwen data.max_length=512",
    "config train/optim=sgd train.batch_size=8 +train.accumulate=2 ++model.name=own/it",
    "config extra=whole",
    "config extra=whole seed=1 ++more.length=3",
    "config ~data.cut model.adapter={rank:8}",
    "config ~spare.one",
    "last",
    "last model=qwen fit.optim.lr=1",
    "nested",
    "nested train.optim.name=lion",
)
"""The name of a configuration, and words."""


def ask(case: str) -> dict[str, Any]:
    """Return dotted key -> value of what Hydra composes."""
    hydra, omegaconf = import_module("hydra"), import_module("omegaconf")
    name, *words = case.split()
    with hydra.initialize_config_dir(str(FOLDER), version_base=None):
        config = hydra.compose(name, words)
    missing = omegaconf.OmegaConf.missing_keys(config)
    for key in missing:
        omegaconf.OmegaConf.update(config, key, "missing")
    flat: dict[str, Any] = {}

    def add(values: dict[str, Any], above: str) -> None:
        for key, value in values.items():
            if isinstance(value, dict) and value:
                add(value, f"{above}{key}.")
            else:
                flat[f"{above}{key}"] = "???" if f"{above}{key}" in missing else value

    add(omegaconf.OmegaConf.to_container(config, resolve=True), "")
    return flat


if __name__ == "__main__":
    ANSWERS.write_text(
        json.dumps({case: ask(case) for case in CASES}, indent=1, sort_keys=True) + "\n"
    )
