"""The plugin manager: what is registered, in which order, and who is to blame when something breaks.

The last that was registered is asked first. Every plugin is called on its own, so that each answer has a name beside it.
"""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Callable, Iterable
from functools import partial
from types import FunctionType, ModuleType
from typing import Any, TypeVar

import pluggy

from preflight import hookspecs
from preflight.builtin_hooks import FIRST_WORDS
from preflight.errors import BadInput, HookFailed, PreflightError
from preflight.remembered import MOST, first_of_equals, remembered
from preflight.streams import say

Answer = TypeVar("Answer")
TIMEOUT_VARIABLE = "PREFLIGHT_PLUGIN_TIMEOUT"
TIMEOUT_S = 30.0
"""What a plugin that is not built in may take for one launch; looking up a model takes seconds, a loop for ever."""
LONGEST_S = 1e6
LONGEST_TRACED = 100
"""Characters of a value in a line of the trace."""
TERMS = "preflight_memory_terms"
HOOK_MARK = "preflight_impl"
"""The attribute that `hookimpl` leaves on a function."""


class MarkedHooks(pluggy.PluginManager):
    """pluggy's manager; in a module it looks for our mark directly, and at no name that is Python's own.

    pluggy takes the care that an object with properties needs for every name of a plugin, which
    for seventy of them is a tenth of a check.
    """

    def parse_hookimpl_opts(self, plugin: Any, name: str) -> Any:
        if name.startswith("__"):
            return None
        if isinstance(plugin, ModuleType):
            value = vars(plugin).get(name)
            if isinstance(value, FunctionType):
                return getattr(value, HOOK_MARK, None)
            if not callable(value) or not hasattr(value, HOOK_MARK):
                return None
        return super().parse_hookimpl_opts(plugin, name)


class PluginManager:
    """pluggy's manager, asked one plugin at a time."""

    def __init__(self) -> None:
        self.pluggy = MarkedHooks("preflight")
        self.pluggy.add_hookspecs(hookspecs)
        self.left_alone: tuple[str, ...] = ()
        """Files with hooks that are not imported: which, why, and what would change that."""
        self.is_traced = os.environ.get("PREFLIGHT_TRACE") == "1"
        self._order: dict[str, int] = {}
        self._own: set[str] = set()
        self._seconds: dict[str, float] = {}
        self._waiting: list[str] = []
        self._callers: dict[str, list[tuple[str, Callable[..., Any]]]] = {}
        self._worked_out: dict[tuple[int, ...], tuple[tuple[object, ...], Any]] = {}

    @property
    def names(self) -> list[str]:
        """Names of all plugins, built-ins not imported yet among them, first registered first."""
        return sorted(self._order, key=self._order.__getitem__)

    def add_builtin(self, name: str) -> None:
        """Take a module of `preflight.hooks` in this place of the order; import it when it is needed."""
        self._order[name] = len(self._order)
        self._own.add(name)
        self._waiting.append(name)

    def next_answer(self) -> None:
        """Give every plugin its whole time again, and forget what they said: both are for one launch."""
        self._seconds.clear()
        self._worked_out.clear()

    def once(self, asked: tuple[object, ...], work_out: Callable[[], Answer]) -> Answer:
        """Return what is worked out of plugins' answers, for the very same values once in a launch."""
        key = tuple(map(id, asked))
        if key not in self._worked_out:
            if len(self._worked_out) >= MOST:
                self._worked_out.clear()
            self._worked_out[key] = (
                asked,
                work_out(),
            )  # what was asked is kept: its identity is not used again
        answer: Answer = self._worked_out[key][1]
        return answer

    def run(self, name: str, hook: str, function: Callable[[], Any]) -> Any:
        """Run code of a plugin; raise HookFailed, naming it, for whatever it raises, and where it takes too long.

        `sys.exit` in a plugin ends no process of ours, and a plugin that waits for ever holds up nothing for ever.
        """
        try:
            if name in self._own:
                return function()
            return self._run_in_time(name, hook, function)
        except (PreflightError, KeyboardInterrupt):
            raise
        except BaseException as error:
            raise HookFailed(name, hook, _told(error)) from error

    def _run_in_time(self, name: str, hook: str, function: Callable[[], Any]) -> Any:
        allowed = plugin_seconds()
        if not allowed:
            return function()
        from preflight.deadline import TimeUp, call_within  # threads are for plugins alone

        started = time.monotonic()
        taken = self._seconds.get(name, 0.0)
        try:
            return call_within(max(0.0, allowed - taken), function)
        except TimeUp:
            reason = f"no answer within {allowed:g} s; {TIMEOUT_VARIABLE}=SECONDS waits longer"
            raise HookFailed(name, hook, reason) from None
        finally:
            self._seconds[name] = taken + time.monotonic() - started

    def register(self, plugin: object, name: str, is_own: bool = False) -> None:
        """Register a plugin; raise HookFailed where a hook of its own is misspelt or takes unknown arguments."""
        self._callers.clear()
        self._worked_out.clear()
        if is_own:
            self._own.add(name)
        self._order.setdefault(name, len(self._order))
        try:
            self.pluggy.register(plugin, name)
        except (pluggy.PluginValidationError, ValueError) as error:
            raise HookFailed(name, "registration", _reason(error)) from error
        unmarked = _unmarked_hooks(plugin)
        if unmarked:
            raise HookFailed(name, "registration", f"{unmarked[0]} is not marked with @hookimpl")

    def check(self) -> None:
        """Raise HookFailed, with the nearest name, for an implementation of a hook that does not exist."""
        try:
            self.pluggy.check_pending()
        except pluggy.PluginValidationError as error:
            name = self.pluggy.get_name(error.plugin) or "unknown"
            raise HookFailed(name, "registration", _reason(error)) from error

    def plugins_of(self, hook: str) -> list[str]:
        """Return the names of the plugins that implement a hook, in the order in which they are asked."""
        return [name for name, _ in self._asked(hook)]

    def first(self, hook: str, **arguments: Any) -> Any:
        """Call a first-result hook; return the first answer that is not None."""
        for name, caller in self._asked(hook):
            answer = self._ask(hook, name, partial(caller, **arguments))
            if answer is not None:
                return answer
        return None

    def tell(self, hook: str, **arguments: Any) -> None:
        """Call a hook whose answers nobody reads."""
        for name, caller in self._asked(hook):
            self._ask(hook, name, partial(caller, **arguments))

    def collect(self, hook: str, **arguments: Any) -> list[tuple[str, Any]]:
        """Call a hook of iterables; return every item with the name of the plugin that yielded it."""
        items: list[tuple[str, Any]] = []
        for later in hookspecs.LATER_ARGUMENTS.get(hook, ()):
            arguments.setdefault(later, None)
        # A report reads better in the order of registration.
        for name, caller in reversed(self._asked(hook)):
            items.extend((name, item) for item in self._items(hook, name, caller, arguments))
        return items

    def collect_from(self, plugin: str, hook: str, **arguments: Any) -> list[Any]:
        """Call a hook of iterables of one plugin; return every item."""
        for later in hookspecs.LATER_ARGUMENTS.get(hook, ()):
            arguments.setdefault(later, None)
        caller = next(caller for name, caller in self._asked(hook) if name == plugin)
        return self._items(hook, plugin, caller, arguments)

    def _items(
        self, hook: str, name: str, caller: Callable[..., Any], arguments: dict[str, Any]
    ) -> list[Any]:
        def listed() -> list[list[Any]]:
            lists = []
            for result in caller(**arguments):
                is_listed = result.__class__ is tuple or isinstance(result, Iterable)
                if not is_listed or isinstance(result, (str, bytes)):
                    reason = f"returned {result!r}, which is not a list of values"
                    raise HookFailed(name, hook, reason)
                lists.append(list(result))
            return lists

        items: list[Any] = []
        for found in self._ask(hook, name, listed):
            if self.is_traced:
                _trace(f"{hook} {name} yielded {len(found)}")
            items.extend(found)
        return items

    def _ask(self, hook: str, name: str, function: Callable[[], Any]) -> Any:
        try:
            answer = self.run(name, hook, function)
        except PreflightError as error:
            if self.is_traced:
                _trace(f"{hook} {name} refused: {_shortened(error)}")
            raise
        if self.is_traced:
            _trace(f"{hook} {name} -> {_shortened(answer)}")
        return answer

    def _asked(self, hook: str) -> list[tuple[str, Callable[..., Any]]]:
        """Return every plugin that implements a hook with a caller of it alone, last registered first."""
        if hook not in self._callers:
            self._import_waiting(hook)
            implementations = [
                implementation
                for implementation in getattr(self.pluggy.hook, hook).get_hookimpls()
                if not (implementation.hookwrapper or implementation.wrapper)
            ]
            implementations.sort(
                key=lambda i: (i.tryfirst, not i.trylast, self._order[i.plugin_name]), reverse=True
            )
            plugins = [implementation.plugin for implementation in implementations]
            every = getattr(self.pluggy.hook, hook)
            is_wrapped = len(every.get_hookimpls()) > len(implementations)
            self._callers[hook] = [
                (
                    implementation.plugin_name,
                    self.pluggy.subset_hook_caller(
                        hook, [plugin for plugin in plugins if plugin is not implementation.plugin]
                    )
                    if is_wrapped
                    else _caller_of(
                        implementation,
                        bool(every.spec.opts["firstresult"]),
                        hook == TERMS and implementation.plugin_name in self._own,
                    ),
                )
                for implementation in implementations
            ]
        return self._callers[hook]

    def _import_waiting(self, hook: str) -> None:
        wanted = [n for n in self._waiting if hook in FIRST_WORDS.get(n.partition("_")[0], ())]
        for name in wanted:
            self._waiting.remove(name)
            self.register(_builtin(name), name, is_own=True)
        if wanted:
            self.check()


def _builtin(name: str) -> object:
    """Return a plugin of ours: its file in hooks/, or that of a launcher in the file which has one for each."""
    if not name.startswith("read_"):
        return importlib.import_module(f"preflight.hooks.{name}")
    plugin: object = importlib.import_module("preflight.hooks.read_launch").PLUGINS[name]
    return plugin


def plugin_seconds() -> float:
    """Return how long a plugin that is not built in may take for one launch; 0 is for ever."""
    text = os.environ.get(TIMEOUT_VARIABLE, "")
    try:
        seconds = float(text or TIMEOUT_S)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= LONGEST_S:
        raise BadInput.of(TIMEOUT_VARIABLE, f"must be seconds, or 0 for no limit, not {text!r}")
    return seconds


def _caller_of(
    implementation: Any, is_first_result: bool, is_remembered: bool
) -> Callable[..., Any]:
    """Return what pluggy's caller of one implementation does where nothing wraps it, in a tenth of the time."""
    function, names = implementation.function, implementation.argnames
    if is_remembered:  # most terms do not depend on what a search or a reading changes
        function = remembered(lambda *asked: first_of_equals((*implementation.function(*asked),)))

    def call(**arguments: Any) -> Any:
        answer = function(*[arguments[name] for name in names])
        if is_first_result:
            return answer
        return [] if answer is None else [answer]

    return call


def _unmarked_hooks(plugin: object) -> list[str]:
    """Return functions of a plugin that are named like a hook and are none: pluggy passes over them."""
    module = getattr(plugin, "__name__", None)
    return [
        name
        for name, value in getattr(plugin, "__dict__", {}).items()
        if name.startswith("preflight_")
        and callable(value)
        and getattr(value, "__module__", None) == module
        and not hasattr(value, HOOK_MARK)
    ]


def _reason(error: BaseException) -> str:
    """Return pluggy's complaint in one line, with the nearest hook name where a name is unknown."""
    import difflib

    known = hookspecs.declared_hook_names()
    text = " ".join(str(error).split())
    if text.startswith("unknown hook"):
        name = text.split("'")[1]
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"
        return f"there is no hook {name}; {hint}"
    return text


def _told(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error}"
    except BaseException:  # of its own __str__
        return type(error).__name__


def _shortened(value: object) -> str:
    text = " ".join((str(value) if isinstance(value, Exception) else repr(value)).split())
    return text if len(text) <= LONGEST_TRACED else text[: LONGEST_TRACED - 3] + "..."


def _trace(text: str) -> None:
    say(f"preflight: trace: {text}\n")
