"""Variables that a script sets in its own environment: accelerate, torch and CUDA read them when they start."""

from __future__ import annotations

import ast

from preflight.launch_facts import Uncounted
from preflight.lazy_pattern import lazy_pattern
from preflight.plan_parts import ON_CPU
from preflight.scripts.python.nodes import unparse
from preflight.scripts.python.reader import ScriptReader
from preflight.scripts.settings.script_settings import ScriptSettings
from preflight.setting import Place, Setting

VISIBLE = "CUDA_VISIBLE_DEVICES"
_READ = lazy_pattern(rf"(?:ACCELERATE_USE_)?FSDP(?:_\w+)?|{VISIBLE}|PYTORCH_(?:CUDA_)?ALLOC_CONF")
_ENGINE = lazy_pattern(r"ACCELERATE_USE_(?:FSDP|DEEPSPEED)|ACCELERATE_DEEPSPEED_\w+|FSDP_\w+")


def read_own_variables(reader: ScriptReader, settings: ScriptSettings) -> None:
    """Record `os.environ["FSDP_VERSION"] = "2"`; the engine is open where one of its variables may be set, or to what only
    running tells."""
    for statements, is_sure in ((reader.statements, True), (reader.unsure_statements, False)):
        for node, scope in statements:
            target = node.targets[0]
            if not isinstance(target, ast.Subscript) or not _is_environment(target.value):
                continue
            name = reader.evaluator.value(target.slice, scope)
            value = reader.evaluator.value(node.value, scope)
            if not isinstance(name, str):
                continue
            place = Place("script", scope.path, name, node.lineno)
            if is_sure and isinstance(value, str) and _READ.fullmatch(name):
                settings.environment[name] = Setting(value, place)
                if name == VISIBLE and value in ("", "-1"):
                    settings.uncounted[ON_CPU] = Uncounted(place, "either")
            elif _ENGINE.fullmatch(name):
                settings.unread.setdefault("engine", place)


def _is_environment(node: ast.expr) -> bool:
    return unparse(node) in ("os.environ", "environ")
