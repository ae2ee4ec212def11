"""What sentence-transformers trains, as its trainer's loss and model say it."""

from __future__ import annotations

from preflight.trainers.fields import FieldReader


def read_texts(fields: FieldReader) -> bool:
    """Put the objective and the texts of a row; tell whether a script trains with sentence-transformers."""
    objective = fields.given.known.get("sentence_objective")
    if objective is None:
        return False
    fields.put("objective", objective.value, objective)
    for name in ("texts_per_row", "cached_rows"):
        if name in fields.given.known:
            count = fields.positive(name, name)
            if count is not None:
                fields.put(name, count.value, count)
    fields.assume(
        "sequence_kind", "padded", "every column is padded to its longest text", "transformers"
    )
    return True
