"""Paths and plans that the memory tests share."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from preflight.builtin_hooks import BUILTIN_HOOKS
from preflight.plugin_manager import PluginManager
from preflight.plugins import load_plugins


@pytest.fixture(scope="session")
def plugins() -> PluginManager:
    """Every built-in memory hook."""
    return load_plugins(builtins=[name for name in BUILTIN_HOOKS if name.startswith("memory_")])
