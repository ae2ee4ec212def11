"""Some of the built-in plugins, for tests of one hook alone."""

from __future__ import annotations

from preflight.builtin_hooks import BUILTIN_HOOKS
from preflight.plugin_manager import PluginManager
from preflight.plugins import load_plugins


def plugins_of(*words: str) -> PluginManager:
    """Return the built-ins whose names begin with one of some words, `memory_`, and no others."""
    return load_plugins(builtins=[name for name in BUILTIN_HOOKS if name.startswith(words)])
