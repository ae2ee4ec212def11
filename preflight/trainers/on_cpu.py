"""A launch that trains on the CPU: it takes nothing of a GPU, and the estimate is what one would take."""

from __future__ import annotations

from preflight.errors import Problem
from preflight.reading import Reading
from preflight.trainers.fields import FieldReader, PlanFields
from preflight.trainers.lookup import Given


def on_cpu(where: str) -> Problem:
    """Return the warning that a place sends the training to the CPU, so that no estimate of a GPU refuses it."""
    return Problem.left_out(
        "the launch trains on the CPU, in host memory: the estimate is what a GPU would take",
        where,
        "training on the CPU",
        "less",
    )


def read_device(given: Given) -> Reading[PlanFields]:
    """Return no field; say that the Trainer's `use_cpu`, once `no_cuda`, keeps it from every GPU."""
    fields = FieldReader(given)
    setting = fields.get("use_cpu")
    if setting is not None and setting.value is True:
        fields.problems.append(on_cpu(setting.place.where))
    return fields.reading()
