"""The model that a script makes by one of OLMo-core's factories: `TransformerConfig.olmo3_7B(vocab_size=...)`.

The table beside is what tests/scripts/olmo_core_factories.py prints in an environment with ai2-olmo-core 3.0.0, of factories
that make the same in 2.6.0: models that are one of transformers' types, with as many parameters.
"""

from __future__ import annotations

import ast
from typing import Any

from preflight.lazy_pattern import lazy_pattern
from preflight.own_tables import table_beside
from preflight.scripts.arguments.trainer_spellings import SIZES
from preflight.scripts.python.nodes import argument_of, keyword_of, last_name, unparse
from preflight.scripts.python.reader import ScriptReader
from preflight.scripts.python.scope import Known, Scope
from preflight.scripts.settings.script_settings import ScriptSettings
from preflight.setting import Place
from preflight.units import ceil_div

CONFIG = "TransformerConfig"
TAKES = {"vocab_size", "attn_backend", "use_flash"}
"""Arguments of a factory that leave the shape as the table has it."""
PADDED = "padded_vocab_size"
EVALUATES = ("LMEvaluatorCallbackConfig", "DownstreamEvaluatorCallbackConfig")
"""Callbacks that run the model between steps, on as many tokens as a micro batch has (TransformerTrainModule.eval_batch_spec)."""
OVERRIDES = lazy_pattern(r"-{0,2}(?:model|train_module|dataset|data_loader)\.[\w.]+=")
"""How words of a command begin that `config.merge(overrides)` sets (olmo_core/config.py, script_utils.py)."""


def overrides(reader: ScriptReader) -> bool:
    """Tell whether the command changes what the script says of its model or its train module."""
    return any(OVERRIDES.match(word) for word in reader.command.argv)


def read_factory(reader: ScriptReader, settings: ScriptSettings) -> None:
    """Record the sizes of the model that the only call of a factory makes, where it is one of the table's."""
    table = table_beside(__file__, "olmo_core_models.json")
    found = [
        (name, call.node, call.scope)
        for call in reader.everywhere
        for name in (_factory(reader, call.node.func, call.scope),)
        if name is not None
    ]
    if len(found) != 1 or "model_name_or_path" in settings.arguments:
        return
    name, node, scope = found[0]
    made = table["factories"].get(name)
    words = _words(reader, node, scope, table["words"])
    is_plain = {each.arg for each in node.keywords} <= TAKES and len(node.args) < 2
    if made is None or words is None or not is_plain or _changes(reader, node):
        return
    sizes: dict[str, Any] = {each: made[each] for each in made if each != "params"}
    place = Place("script", scope.path, name, node.lineno)
    settings.put(SIZES, Known({**sizes, "vocab_size": words}, place))
    settings.seen.pop("built_elsewhere", None)


def _factory(reader: ScriptReader, func: ast.expr, scope: Scope) -> str | None:
    """Return the name of the factory that a call calls; None of another call, and empty where only running tells."""
    only = reader.evaluator.only_node(func, scope)
    made = None if only is None else only[0]
    if isinstance(made, ast.Attribute) and last_name(made.value) == CONFIG:
        return made.attr
    is_asked = isinstance(made, ast.Call) and unparse(made.func) == "getattr"
    if not is_asked or not isinstance(made, ast.Call) or len(made.args) != 2 or only is None:
        return None
    name = reader.evaluator.value(made.args[1], only[1])
    return (name if isinstance(name, str) else "") if last_name(made.args[0]) == CONFIG else None


def _words(reader: ScriptReader, node: ast.Call, scope: Scope, known: dict[str, int]) -> int | None:
    """Return how many words a factory is told of; None where only running tells."""
    given = argument_of(node, 0, "vocab_size")
    if given is None:
        return None
    value = reader.evaluator.value(given, scope)
    if isinstance(value, int):
        return value
    func = given.func if isinstance(given, ast.Call) else None
    if not isinstance(func, ast.Attribute) or func.attr != PADDED:
        return None
    held = reader.only_call(func.value, scope)
    if held is None or not unparse(held.node.func).startswith("TokenizerConfig."):
        return None
    words = known.get(held.name)
    multiple = 128  # the default of padded_vocab_size (olmo_core/data/tokenizer.py)
    if (isinstance(given, ast.Call) and (given.args or given.keywords)) or words is None:
        return None
    return ceil_div(words, multiple) * multiple


def _changes(reader: ScriptReader, made: ast.Call) -> bool:
    """Tell whether a statement sets something of the config that a factory made, but how the head takes its loss."""
    names = {
        target.id
        for statement, _ in reader.possible_statements
        for target in statement.targets
        if isinstance(target, ast.Name) and any(each is made for each in ast.walk(statement))
    }
    return any(
        isinstance(target, ast.Attribute)
        and unparse(target).partition(".")[0] in names
        and not unparse(target).endswith(".loss_implementation")
        for statement, _ in reader.possible_statements
        for target in statement.targets
    )


def evaluates(reader: ScriptReader) -> bool:
    """Tell whether callbacks run the model between steps."""
    calls = (call.node for call in reader.everywhere if call.name in EVALUATES)
    for node in calls:
        enabled = keyword_of(node, "enabled")
        if not (isinstance(enabled, ast.Constant) and enabled.value is False):
            return True
    return False
