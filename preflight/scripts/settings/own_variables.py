"""Variables that a script sets in its own environment: accelerate, torch and CUDA read them when they start."""

from __future__ import annotations

import ast

from preflight.launch_facts import Uncounted
from preflight.lazy_pattern import lazy_pattern
from preflight.scripts.python.reader import ScriptReader
from preflight.scripts.python.scope import UNKNOWN, Scope
from preflight.scripts.python.set_variables import SETTING, set_by
from preflight.scripts.settings.script_settings import ScriptSettings
from preflight.setting import Place, Setting
from preflight.unpriced_names import ON_CPU

VISIBLE = "CUDA_VISIBLE_DEVICES"
_READ = lazy_pattern(rf"(?:ACCELERATE_USE_)?FSDP(?:_\w+)?|{VISIBLE}|PYTORCH_(?:CUDA_)?ALLOC_CONF")
_ENGINE = lazy_pattern(r"ACCELERATE_USE_(?:FSDP|DEEPSPEED)|ACCELERATE_DEEPSPEED_\w+|FSDP_\w+")


def read_own_variables(reader: ScriptReader, settings: ScriptSettings) -> None:
    """Record `os.environ["FSDP_VERSION"] = "2"`; the engine is open where one of its variables may be set, or to what only
    running tells."""
    setting = (reader.statements, reader.named(*SETTING)), (reader.unsure_statements, reader.maybe(*SETTING))  # fmt: skip
    for (statements, calls), is_sure in zip(setting, (True, False), strict=True):
        nodes: list[tuple[ast.stmt | ast.expr, Scope]] = list(statements)
        for node, scope in (*nodes, *((call.node, call.scope) for call in calls)):
            for each in set_by(node):
                name = _value(each.name, scope, reader)
                value = _value(each.value, scope, reader)
                if not isinstance(name, str):
                    continue
                place = Place("script", scope.path, name, node.lineno)
                if each.is_default and name in reader.command.env:
                    continue
                if is_sure and isinstance(value, str) and _READ.fullmatch(name):
                    settings.environment[name] = Setting(value, place)
                    if name == VISIBLE and value in ("", "-1"):
                        settings.uncounted[ON_CPU] = Uncounted(place, "either")
                elif _ENGINE.fullmatch(name):
                    settings.unread.setdefault("engine", place)


def _value(node: ast.expr | None, scope: Scope, reader: ScriptReader) -> object:
    return UNKNOWN if node is None else reader.evaluator.value(node, scope)
