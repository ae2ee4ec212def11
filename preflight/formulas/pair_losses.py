"""Losses of TRL that read whole logits of pairs: ORPO, CPO and SimPO, which take log-probabilities, the first two beside a cross entropy.

Bytes per token and vocabulary entry, in units of the logits that the model returns (fp32 under autocast, where accelerate
copies outputs), counted on TRL's own trainers by tests/formulas/test_objectives.py, `torch` with rows one by one:

                    logits and loss, forward      backward     torch, 16 bits        torch, fp32
    ORPO, CPO       2                             3            2.5 and 3             2 and 4.5
    SimPO           1                             2            2 and 2               1 and 4
"""

from __future__ import annotations

from preflight.formulas.user_loop import LossBytes
from preflight.launch import LaunchPlan
from preflight.versions.trl import FUSES_LOGPROBS


def pair_loss_bytes(plan: LaunchPlan, size: int, casts_outputs: bool) -> LossBytes:
    """Return the bytes per logit of a plan whose head makes logits of `size` bytes."""
    outputs = 4 if casts_outputs else size
    casting = size + outputs if size != outputs else 0
    takes_both = plan.objective != "simpo"
    forward, backward = (2 * outputs, 3 * outputs) if takes_both else (outputs, 2 * outputs)
    source = "trl/experimental/orpo, cpo; kernels/logprob_entropy.py:146-260 (1.16.0)"
    if not FUSES_LOGPROBS.holds_in(plan.versions):
        source = "trl/trainer/utils.py selective_log_softmax, row by row (0.19.1, 1.13.0)"
        if outputs == 4:
            backward = 18 if takes_both else 16
        else:
            forward = 5 if takes_both else 4
    return LossBytes(max(casting, forward), backward, outputs, source)
