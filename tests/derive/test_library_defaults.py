"""The derived tables are those of the installed transformers."""

from __future__ import annotations

from dataclasses import fields, replace

from preflight.derive.tables.library_defaults import derive
from preflight.models.families.library_defaults import library_defaults, tables_of


def test_the_shipped_tables_are_what_the_installed_library_says():
    """After an upgrade of transformers: `python -m preflight.derive library_defaults`, and review the diff."""
    derived, shipped = tables_of(derive()), library_defaults()
    # Patch releases may differ where the tables do not.
    minor = [tables.transformers.rpartition(".")[0] for tables in (derived, shipped)]
    derived = replace(derived, transformers=shipped.transformers)

    assert minor[0] == minor[1]
    for field in fields(shipped):
        assert getattr(derived, field.name) == getattr(shipped, field.name), field.name


def test_the_tables_are_read_once():
    assert library_defaults() is library_defaults()
