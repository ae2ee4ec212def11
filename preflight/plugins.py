"""The plugin manager: what is registered, in which order, and who is to blame when something breaks.

Built-ins register first, then entry points of the group `preflight`, then a project's
`preflight_hooks.py`; pluggy asks the last registered first, so a project beats an installed
plugin, which beats a built-in.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Iterable
from typing import Any

import pluggy

from preflight import hookspecs
from preflight.errors import BadInput, HookFailed, PreflightError

ENTRY_POINT_GROUP = "preflight"
PROJECT_FILE = "preflight_hooks.py"

BUILTIN_HOOKS: tuple[str, ...] = (
    # A hook module is imported when its first hook is called for; asked in reverse order.
    "read_accelerate",
    "model_registry",
    "model_hub_cache",
    "model_path",
    "model_inline",
    "device_driver",
    "device_table",
    "device_given",
    "check_fsdp",
    "check_launch",
    "memory_model_states",
    "memory_sharding",
    "memory_deepspeed",
    "memory_activations",
    "memory_loss",
    "memory_optimizer_step",
    "memory_load",
    "memory_save",
    "memory_host",
    "memory_runtime",
    "remedy_expandable_segments",
    "remedy_reshard_after_forward",
    "remedy_micro_batch",
    "remedy_activation_checkpointing",
    "remedy_seq_len",
    "remedy_optimizer_8bit",
    "remedy_lora",
    "remedy_qlora",
)


class PluginManager:
    """pluggy's manager, with results that know which plugin they came from."""

    def __init__(self) -> None:
        self.pluggy = pluggy.PluginManager("preflight")
        self.pluggy.add_hookspecs(hookspecs)

    def register(self, plugin: object, name: str) -> None:
        """Register a plugin; raise HookFailed where a hook of its own is misspelt or takes unknown arguments."""
        try:
            self.pluggy.register(plugin, name)
        except (pluggy.PluginValidationError, ValueError) as error:
            raise HookFailed(name, "registration", str(error)) from error

    def first(self, hook: str, **arguments: Any) -> Any:
        """Call a first-result hook; return the first answer that is not None."""
        return self._call(hook, arguments)

    def collect(self, hook: str, **arguments: Any) -> list[tuple[str, Any]]:
        """Call a hook of iterables; return every item with the name of the plugin that yielded it."""
        items: list[tuple[str, Any]] = []
        # pluggy answers last registered first; a report reads better in the order of registration.
        for result in reversed(self._call(hook, arguments)):
            owner = self._owner(hook, result)
            if isinstance(result, (str, bytes)) or not isinstance(result, Iterable):
                raise HookFailed(owner, hook, f"returned {result!r}, which is not a list of values")
            try:
                items.extend((owner, item) for item in result)
            except PreflightError:
                raise
            except Exception as error:
                raise HookFailed(self._blamed(hook, error) or owner, hook, _told(error)) from error
        return items

    def _call(self, hook: str, arguments: dict[str, Any]) -> Any:
        try:
            return getattr(self.pluggy.hook, hook)(**arguments)
        except PreflightError:
            raise
        except Exception as error:
            raise HookFailed(self._blamed(hook, error) or "unknown", hook, _told(error)) from error

    def _implementations(self, hook: str) -> list[pluggy.HookImpl]:
        return list(getattr(self.pluggy.hook, hook).get_hookimpls())

    def _owner(self, hook: str, result: object) -> str:
        """Return the plugin whose generator this is; a list says nothing of its maker."""
        code = getattr(result, "gi_code", None)
        for implementation in self._implementations(hook):
            if code is not None and getattr(implementation.function, "__code__", None) is code:
                return implementation.plugin_name
        return "unknown"

    def _blamed(self, hook: str, error: BaseException) -> str | None:
        """Return the plugin whose function stands in the traceback."""
        codes = {
            getattr(i.function, "__code__", None): i.plugin_name
            for i in self._implementations(hook)
        }
        traceback = error.__traceback__
        while traceback is not None:
            name = codes.get(traceback.tb_frame.f_code)
            if name is not None:
                return name
            traceback = traceback.tb_next
        return None


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def load_plugins(
    project_dir: str | None = None, builtins: Iterable[str] = BUILTIN_HOOKS
) -> PluginManager:
    """Return a manager with built-ins, installed entry points and the project's own hooks, checked."""
    manager = PluginManager()
    if os.environ.get("PREFLIGHT_TRACE") == "1":
        manager.pluggy.trace.root.setwriter(lambda message: sys.stderr.write(message))
        manager.pluggy.enable_tracing()
    for name in builtins:
        manager.register(importlib.import_module(f"preflight.hooks.{name}"), name)
    _load_entry_points(manager)
    if project_dir is not None:
        _load_project_file(manager, os.path.join(project_dir, PROJECT_FILE))
    try:
        manager.pluggy.check_pending()
    except pluggy.PluginValidationError as error:
        name = manager.pluggy.get_name(error.plugin) or "unknown"
        raise HookFailed(name, "registration", _pending_reason(str(error))) from error
    return manager


def _pending_reason(text: str) -> str:
    """Add the nearest hook name to pluggy's `unknown hook` message."""
    import difflib

    words = [word.strip("'\"") for word in text.split() if "preflight_" in word]
    for word in words:
        near = difflib.get_close_matches(word, hookspecs.declared_hook_names(), n=1)
        if near:
            return f"{text}; did you mean {near[0]}?"
    return text


def _load_entry_points(manager: PluginManager) -> None:
    from importlib.metadata import entry_points

    for point in entry_points(group=ENTRY_POINT_GROUP):
        try:
            plugin = point.load()
        except Exception as error:
            raise HookFailed(point.name, "import", _told(error)) from error
        manager.register(plugin, point.name)


def _load_project_file(manager: PluginManager, path: str) -> None:
    if not os.path.isfile(path):
        return
    spec = importlib.util.spec_from_file_location("preflight_project_hooks", path)
    if spec is None or spec.loader is None:
        raise BadInput.one("cannot be imported as a Python module", path)
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise HookFailed(path, "import", _told(error)) from error
    manager.register(module, path)
