"""The derived tables are those of the installed transformers."""

from __future__ import annotations

from preflight.derive import library_defaults as derive
from preflight.models.families import library_defaults


def test_the_derived_tables_are_what_the_installed_library_says():
    """After an upgrade of transformers: `python -m preflight.derive.library_defaults`, and review the diff."""
    tables = derive.derive()

    for name, table in tables.items():
        assert getattr(library_defaults, name) == table, name
