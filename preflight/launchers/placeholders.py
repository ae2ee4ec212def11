"""Texts in a framework's file that another program fills in before it is read."""

from __future__ import annotations

from preflight.lazy_pattern import lazy_pattern
from preflight.setting import Setting

PLACEHOLDER = lazy_pattern(r"\$\{(?![A-Z_][A-Z0-9_]*\}/)[^}]*\}|\{\{.*?\}\}|\$[A-Z_][A-Z0-9_]*$")
"""Text that another program fills in before the file is read; a shell's variable for a folder, `${HOME}/models/gpt2`, leaves
the name of what lies there."""


def is_placeholder(setting: Setting) -> bool:
    """Tell whether a value is text that another program fills in."""
    return isinstance(setting.value, str) and PLACEHOLDER.search(setting.value) is not None
