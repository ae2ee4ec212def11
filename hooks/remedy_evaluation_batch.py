"""evaluation_batch: fewer sequences at a time in evaluation.

Saves      logits and activations of an evaluation batch, in proportion
Costs      a slower evaluation; steps are not touched
Safety     equivalent: training is bit-identical, but the reported loss averages the means of other batches, so
           what hangs on it (the best checkpoint, early stopping) can fall a step earlier or later
Written as per_device_eval_batch_size, eval_batch_size (axolotl)
"""

from __future__ import annotations

from collections.abc import Iterable

from preflight.hookspecs import hookimpl
from preflight.launch import LaunchPlan
from preflight.remedy import Remedy


@hookimpl
def preflight_remedies(plan: LaunchPlan) -> Iterable[Remedy]:
    """Halve the evaluation batch, again and again, down to one sequence."""
    batch = plan.eval_micro_batch_size
    smaller = batch // 2 if batch else 0
    while smaller:
        yield Remedy(
            "evaluation_batch",
            f"evaluate {smaller} sequences at a time, not {batch}",
            {"eval_micro_batch_size": smaller},
            "equivalent",
            how=f"--per_device_eval_batch_size {smaller}",
        )
        smaller //= 2
