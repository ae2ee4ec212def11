"""torch's own module for checkpointing, which `apply_activation_checkpointing` puts around each layer: which kind it is."""

from __future__ import annotations

import ast

from preflight.scripts.python.files import CallFound
from preflight.scripts.python.nodes import argument_of, keyword_of, last_name
from preflight.scripts.python.reader import ScriptReader
from preflight.scripts.python.scope import Known, Scope
from preflight.scripts.settings.followed_models import followed
from preflight.scripts.settings.script_settings import ScriptSettings

IS_REENTRANT = "checkpointing_reentrant"
WRAPS = "apply_activation_checkpointing"
_WRAPPER = "checkpoint_wrapper"
_KIND = "checkpoint_impl"
_KINDS = {"REENTRANT": True, "NO_REENTRANT": False}
"""Members of torch's CheckpointImpl."""
_DIVIDES = ("FSDP", "FullyShardedDataParallel")


def read_wrapped_checkpoints(reader: ScriptReader, settings: ScriptSettings) -> None:
    """Note where a script has torch checkpoint each layer in a module of its own, inside what FSDP wraps, and read whether
    that is reentrant where the script says it."""
    calls = reader.named(WRAPS)
    if len(calls) != 1 or _is_wrapped_later(reader, calls[0]):
        return
    call, place = calls[0], reader.place(calls[0])
    settings.seen["wrapped_checkpoints"] = place
    wrapper = argument_of(call.node, 1, "checkpoint_wrapper_fn")
    made = [] if wrapper is None else [*followed(reader, wrapper, call.scope)]
    kinds = {_kind(reader, each) for each in made if each is not None}
    is_reentrant = kinds.pop() if len(kinds) == 1 and None not in made else None
    if is_reentrant is not None:
        settings.put(IS_REENTRANT, Known(is_reentrant, place))


def _is_wrapped_later(reader: ScriptReader, call: CallFound) -> bool:
    """Tell whether FSDP wraps the layers after their checkpoints are there, each inside its own."""
    return any(
        each.scope.path == call.scope.path and each.node.lineno > call.node.lineno
        for each in reader.possible(*_DIVIDES)
    )


def _kind(reader: ScriptReader, made: CallFound) -> bool | None:
    """Return whether `partial(checkpoint_wrapper, checkpoint_impl=...)` is reentrant; None where it does not say."""
    wraps = made.name == "partial" and [last_name(e) for e in made.node.args[:1]] == [_WRAPPER]
    said = keyword_of(made.node, _KIND) if wraps else None
    return None if said is None else _meant(reader, said, made.scope)


def _meant(reader: ScriptReader, said: ast.expr, scope: Scope) -> bool | None:
    if isinstance(said, ast.IfExp):
        ways = reader.evaluator.branches(said, scope)
        return _meant(reader, ways[0], scope) if len(ways) == 1 else None
    return _KINDS.get(last_name(said))
