"""What the options of a command ask of a check."""

from __future__ import annotations

from typing import Any

from preflight.commands.options import lengths_from, policy_from, prices_from, settings_from
from preflight.plugin_manager import PluginManager
from preflight.repository.settings import Repository
from preflight.request import Request


def request_from(options: Any, repository: Repository | None = None, **more: Any) -> Request:
    """Return the request of a command that takes `add_launch_options`; `more` are fields that it alone fills in.

    Raises BadInput where an option, or a file that one names, cannot be used.
    """
    repository = Repository() if repository is None else repository
    return Request(
        options.device,
        settings_from(options.set),
        policy_from(options, repository.policy),
        lengths_from(options),
        repository,
        prices=prices_from(options),
        is_online=options.online,
        **more,
    )


def known_remedies(plugins: PluginManager) -> list[str] | None:
    """Return the ids of all built-in remedies; None where a plugin may have others."""
    from preflight.builtin_hooks import BUILTIN_HOOKS

    if any(name not in BUILTIN_HOOKS for name in plugins.plugins_of("preflight_remedies")):
        return None
    return [n.removeprefix("remedy_") for n in BUILTIN_HOOKS if n.startswith("remedy_")]
