"""Every hook of hookspecs.py is declared as a reader needs it."""

from __future__ import annotations

from preflight import hookspecs
from preflight.render.hook_reference import hooks_in_order


def test_every_hook_has_a_typed_signature_and_a_sentence():
    for hook in hooks_in_order():
        assert " -> " in hook.signature, hook.name
        assert hook.about.endswith("."), hook.name


def test_all_eight_hooks_of_the_design_are_declared():
    assert hookspecs.declared_hook_names() == [
        "preflight_read_launch",
        "preflight_describe_model",
        "preflight_describe_device",
        "preflight_findings",
        "preflight_memory_terms",
        "preflight_remedies",
        "preflight_write_launch",
        "preflight_reported",
    ]
