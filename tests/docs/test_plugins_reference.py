"""hooks/README.md says what hookspecs.py says."""

from __future__ import annotations

from pathlib import Path

from preflight import hookspecs
from preflight.render.hook_reference import hook_reference, hooks_in_order

README = Path(__file__).parents[2] / "hooks" / "README.md"


def test_the_hook_reference_is_up_to_date():
    """`python -m preflight.render.hook_reference > hooks/README.md` writes it again."""

    assert README.read_text() == hook_reference()


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
