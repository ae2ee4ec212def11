"""The shipped tables against the installed libraries."""

from __future__ import annotations

import json

import pytest

from preflight.derive.tables.trainer_tables import derive
from preflight.own_tables import beside, read_table
from preflight.scripts.arguments import trainer_tables
from preflight.scripts.arguments.trainer_tables import argument_table
from preflight.scripts.arguments.trainer_versions import (
    DEFAULT_CHANGES,
    LibraryVersions,
    default_of,
)
from preflight.versions.boundary import OLDEST


def test_the_shipped_table_is_that_of_the_installed_libraries():
    shipped = read_table(beside(trainer_tables.__file__, "trainer_arguments.json"))
    derived = json.loads(json.dumps(derive()))
    # Patch releases may differ where the arguments do not.
    for tables in (shipped, derived):
        tables["versions"] = {
            name: version.rpartition(".")[0] for name, version in tables["versions"].items()
        }

    assert shipped == derived


def test_the_newest_rules_agree_with_the_table():
    sft, base = argument_table("sft"), argument_table(None)
    versions = LibraryVersions()

    assert versions.default("trl", "load_dtype") == sft.arguments["dtype"].default
    assert versions.default("trl", "bf16") == sft.arguments["bf16"].default
    assert (
        versions.default("trl", "gradient_checkpointing")
        == sft.arguments["gradient_checkpointing"].default
    )
    assert versions.default_optimizer() == base.arguments["optim"].default


def test_rules_are_in_version_order():
    for library, name in {(change.library, change.name) for change in DEFAULT_CHANGES}:
        first, *later = (c.since for c in DEFAULT_CHANGES if (c.library, c.name) == (library, name))
        releases = [OLDEST, *(boundary.release for boundary in later)]

        assert first is None
        assert releases == sorted(set(releases))
        assert {boundary.library for boundary in later} == {library}


@pytest.mark.parametrize(
    ("library", "name", "version", "value"),
    [
        ("trl", "gradient_checkpointing", "0.21.0", False),
        ("trl", "gradient_checkpointing", "0.22.2", True),
        ("trl", "load_dtype", "0.26.2", None),
        ("trl", "load_dtype", "0.29.0", "float32"),
        ("trl", "loss", "1.6.0", "model"),
        ("trl", "loss", "1.9.0", "chunked_unless_liger"),
        ("trl", "loss", "1.15.0", "fused_head"),
        ("transformers", "optim", "4.53.3", "adamw_torch"),
        ("transformers", "load_dtype", "4.57.6", "float32"),
        ("transformers", "load_dtype", "5.0.0", "auto"),
    ],
)
def test_a_default_is_that_of_its_version(library, name, version, value):
    assert default_of(library, name, version) == value
