"""How many texts a row of a dataset has, where a script's own words for its columns say it."""

from __future__ import annotations

import ast

from preflight.scripts.files import last_name
from preflight.scripts.model_calls import followed
from preflight.scripts.reader import ScriptReader
from preflight.scripts.scope import Scope

LABELS = frozenset({"label", "labels", "score", "scores", "dataset_name"})
"""Columns that are no texts (sentence_transformers/data_collator.py valid_label_columns, 3.0 to 6.2)."""
KEEPS_COLUMNS = ("select", "shuffle", "shard", "take", "skip", "train_test_split")
"""Methods of a dataset that give back rows of it with all their columns."""
SUBSETS = {"pair": 2, "pair-class": 2, "pair-score": 2, "triplet": 3}
"""Subset of the datasets of sentence-transformers on the hub -> texts of a row, which it is named after."""
MOST_CALLS = 12


def num_texts(reader: ScriptReader, node: ast.expr | None, scope: Scope) -> int | None:
    """Return the texts of a row of the dataset that an expression makes; None where its columns are not said."""
    for _ in range(MOST_CALLS):
        made = list(followed(reader, node, scope)) if node is not None else []
        if len(made) != 1 or made[0] is None:
            return None
        call, scope = made[0].node, made[0].scope
        if made[0].name == "select_columns" and call.args:
            return _texts(reader.evaluator.value(call.args[0], scope))
        if made[0].name == "from_dict" and call.args and isinstance(call.args[0], ast.Dict):
            keys = [reader.evaluator.value(key, scope) for key in call.args[0].keys if key]
            return _texts(keys) if len(keys) == len(call.args[0].keys) else None
        if made[0].name == "load_dataset":
            said = [reader.evaluator.value(each, scope) for each in call.args[:2]]
            is_own = bool(said) and str(said[0]).startswith("sentence-transformers/")
            return SUBSETS.get(str(said[1])) if is_own and len(said) == 2 else None
        if last_name(call.func) not in KEEPS_COLUMNS or not isinstance(call.func, ast.Attribute):
            return None
        node = call.func.value
    return None


def _texts(columns: object) -> int | None:
    if not isinstance(columns, (list, tuple)) or not all(isinstance(c, str) for c in columns):
        return None
    return sum(column not in LABELS for column in columns) or None
