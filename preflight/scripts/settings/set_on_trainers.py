"""What a script sets on a Trainer that is made, beside its arguments: `trainer.compute_loss = own_loss`."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from preflight.launch_facts import Uncounted
from preflight.lazy_pattern import lazy_pattern
from preflight.scripts.python.nodes import last_name, unparse
from preflight.scripts.python.reader import ScriptReader
from preflight.scripts.python.running_calls import attributes_set
from preflight.scripts.python.scope import UNKNOWN, Known, Scope
from preflight.scripts.settings.gathered_outputs import METRICS
from preflight.scripts.settings.own_batches import BATCHES, is_within_trainer
from preflight.scripts.settings.script_settings import ScriptSettings
from preflight.setting import Place

_TRAINER = lazy_pattern(r"(?i)trainer$")
SETS_ROWS = "_train_batch_size"
"""What a loader takes its rows from; `train()` takes it anew from the arguments to 4.57 (transformers/trainer.py, 4.29 to 5.24)."""
ARGUMENTS = {
    **BATCHES,
    SETS_ROWS: "per_device_train_batch_size",
    "optimizer": "optim",
    "create_optimizer": "optim",
    "create_optimizer_and_scheduler": "optim",
    "get_optimizer_cls_and_kwargs": "optim",
}
"""Attribute of a Trainer -> the argument that says no more what it trains with once it is set (transformers/trainer.py, 5.24)."""
KEEPING = ("compile", "prepare", "prepare_model", "cuda")
"""Functions that give back what they are given, for a trainer: `trainer.optimizer = accelerator.prepare(trainer.optimizer)`."""
_WRITES = lazy_pattern(r"log|save|push|store|scheduler|checkpoint|sampler")
"""Methods that leave what a step holds as it is."""


def read_set_on_trainers(reader: ScriptReader, settings: ScriptSettings) -> None:
    """Leave open which rows, length and optimizer a Trainer has that is given others, and name what its step becomes."""
    for target, value, scope in _set(reader):
        place = Place("script", scope.path, target.attr, target.lineno)
        is_kept = isinstance(value, ast.Call) and last_name(value.func) in KEEPING
        if is_kept or target.attr == METRICS:  # which is read of itself
            continue
        if target.attr in ARGUMENTS:
            settings.put_later(ARGUMENTS[target.attr], Known(UNKNOWN, place))
        elif target.attr == "model" or (
            _is_function(reader, value) and not _WRITES.search(target.attr)
        ):
            settings.uncounted[f"the {target.attr} that a script gives its trainer"] = Uncounted(
                place, "either"
            )


def _set(reader: ScriptReader) -> Iterator[tuple[ast.Attribute, ast.expr, Scope]]:
    """Yield the attributes of Trainers that are set where it may run."""
    for target, value, scope in attributes_set(reader.possible_statements):
        is_own = target.attr == SETS_ROWS and is_within_trainer(reader, target.value, scope)
        if is_own or _TRAINER.search(unparse(target.value)):
            yield target, value, scope


def _is_function(reader: ScriptReader, value: ast.expr) -> bool:
    if isinstance(value, ast.Call):
        return last_name(value.func) in ("partial", "MethodType", "__get__")
    return isinstance(value, ast.Lambda) or last_name(value) in reader.functions
