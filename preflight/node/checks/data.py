"""PF519: a dataset of the launch that is a path, and is not there."""

from __future__ import annotations

import os
from collections.abc import Iterator

from preflight.finding import Finding
from preflight.findings import found
from preflight.launch import LaunchPlan

FILES = ("train_file", "validation_file", "eval_file", "test_file")
"""Arguments of the example scripts of transformers and TRL that name one file."""
NAMES = ("dataset_name", "dataset", "data_path", "dataset_path", "train_data", "data_files")
"""Arguments that name a data set of the hub, or a path."""
ENDINGS = (".json", ".jsonl", ".csv", ".parquet", ".arrow", ".txt", ".gz", ".zst", ".tar")


def findings(plan: LaunchPlan) -> Iterator[Finding]:
    """Look for the files and folders that the script's arguments name."""
    for name in (*FILES, *NAMES):
        setting = plan.trainer_facts.given(name)
        if setting is None or not isinstance(setting.value, str):
            continue
        text = setting.value
        is_path = name in FILES or is_plainly_a_path(text)
        if not is_path or "://" in text or any(mark in text for mark in "*?[{$,"):
            continue
        if not os.path.exists(plan.resolve(text)):
            yield found(
                "PF519",
                f"there is no {text}: {setting.place.key or name} names it",
                setting.place.where,
                "the path as the ranks see it; a relative one starts where the launch does",
            )


def is_plainly_a_path(text: str) -> bool:
    """Tell whether a text can only be a path: `user/name` may be a data set of the hub."""
    return text.startswith(("/", "./", "../", "~")) or text.endswith(ENDINGS)
