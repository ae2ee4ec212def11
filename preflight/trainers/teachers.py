"""The teacher of TRL's GKD: what a script gives the trainer as one."""

from __future__ import annotations

import ast

from preflight.scripts.python.nodes import last_name
from preflight.scripts.python.trees import nodes_of
from preflight.setting import Place, Setting
from preflight.trainers.fields import FieldReader
from preflight.trainers.handed import ways_of
from preflight.unpriced_names import TEACHER

ARGUMENT = "teacher_model_name_or_path"


def read_teacher(fields: FieldReader) -> str:
    """Put the teacher's name where the trainer has it by its name, or an object that the script loads by it; return in
    words what is not priced.

    A collator of the script's own makes rows of another length, and Liger's divergence takes no whole logits.
    """
    if any(
        fields.value(name) not in (None, False) for name in ("use_liger_kernel", "use_liger_loss")
    ):
        return "Liger's divergence from a teacher"
    nodes = nodes_of(fields.given.kind.text)
    calls = [n for n in nodes if isinstance(n, ast.Call) and last_name(n.func) == "GKDTrainer"]
    given = {each.arg: each.value for call in calls for each in call.keywords if each.arg}
    if len(calls) != 1 or "teacher_model" not in given or "data_collator" in given:
        return TEACHER
    names = [_name(fields, way) for way in ways_of(given["teacher_model"], nodes)]
    if len(names) == 1 and names[0] is not None:
        fields.put("reference_model", str(names[0].value), names[0])
    return TEACHER


def _name(fields: FieldReader, way: ast.expr) -> Setting | None:
    """Return the name that a teacher is loaded by: written, or the argument's."""
    if isinstance(way, ast.Call) and last_name(way.func) == "from_pretrained" and way.args:
        way = way.args[0]
    if isinstance(way, ast.Constant) and isinstance(way.value, str):
        return Setting(way.value, Place("script", "", "teacher_model"))
    said = fields.get(ARGUMENT) if last_name(way) == ARGUMENT else None
    return said if said is not None and isinstance(said.value, str) else None
