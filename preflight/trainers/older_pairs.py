"""What TRL's DPO does with its arguments before its head was fused: what of it is not priced, and which reference it loads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from preflight.trainers.fields import FieldReader
from preflight.trainers.handed import handed_reference
from preflight.trainers.lookup import Given
from preflight.values import NamedTuple
from preflight.versions.trl import FUSES_HEAD, LIGER_KERNEL_IS_LOSS
from preflight.versions.trl_pairs import (
    DPO_HAS_PADDING_FREE,
    DPO_KEEPS_REFERENCE,
    DPO_LOADS_REFERENCE,
    DPO_TAKES_ENTROPY,
    SCRIPT_LOADS_POLICY,
)


class NotPriced(NamedTuple):
    """What an argument changes that no formula holds."""

    name: str
    takes: Literal["more", "less", "either"]


WIDER = "a reference model that TRL loads in fp32"
LIGER = NotPriced("the log-probabilities of Liger's loss", "either")
COMPLETIONS = NotPriced("logits of completions alone", "less")
SUPERVISED = NotPriced("a cross entropy beside log-probabilities", "more")
UNPAIRED = NotPriced("pairs that Liger's loss does not find in one row without padding", "either")
"""Of a row it takes no half for the chosen answers, and its loss is not a number (`target.shape[0] // 2` of
liger_kernel/chunked_loss/fused_linear_preference.py, 0.5.10 to 0.8.5; trl/trainer/dpo_trainer.py _compute_loss_liger, 0.28.0)."""
ARGUMENTS = {
    "use_liger_kernel": LIGER,
    "use_liger_loss": LIGER,
    "use_logits_to_keep": COMPLETIONS,
    "use_num_logits_to_keep": COMPLETIONS,
    "padding_free": UNPAIRED,
    "rpo_alpha": SUPERVISED,
}
"""Argument of DPO in 0.9 to 1.14, and of KTO in 1.8 to 1.13 -> what it does to whole logits."""


def not_priced(given: Given, objective: str, losses: set[str]) -> NotPriced | None:
    """Return the first argument that changes what whole logits take; None where all is priced, as Liger's DPO is."""
    versions = {"trl": given.versions.of("trl")}
    if FUSES_HEAD.holds_in(versions):
        return None
    for name, found in ARGUMENTS.items():
        if found is LIGER and objective == "dpo":
            continue
        said = given.known.get(name) or given.others.get(name)
        if found is UNPAIRED and not (
            DPO_HAS_PADDING_FREE.holds_in(versions) and _takes_ligers_loss(given, versions)
        ):
            continue
        if said is not None and said.value not in (False, None, 0):
            return found
    return SUPERVISED if "sft" in losses else None


def _takes_ligers_loss(given: Given, versions: Mapping[str, str]) -> bool:
    """Tell whether an argument asks for Liger's loss of pairs, and not for its modules alone."""
    name = "use_liger_kernel" if LIGER_KERNEL_IS_LOSS.holds_in(versions) else "use_liger_loss"
    said = given.known.get(name) or given.others.get(name)
    return said is not None and said.value not in (False, None, 0)


def loads_wider_reference(fields: FieldReader) -> bool:
    """Tell whether TRL loads the reference in fp32 by its name, beside a policy in 16 bits that the script loads."""
    given, versions = fields.given, {"trl": fields.given.versions.of("trl")}
    kind = given.kind
    if not DPO_LOADS_REFERENCE.holds_in(versions):
        return False
    loads = SCRIPT_LOADS_POLICY.holds_in(versions) if kind.is_own_script else kind.loads_model
    adapts = fields.value("use_peft") is True or (
        not kind.is_own_script and "peft_config" in kind.text
    )
    if not loads or adapts or "model_init_kwargs" in given.known:
        return False
    dtype = fields.get("dtype")
    return dtype is not None and dtype.value is not None and fields.dtype(dtype) != "fp32"


def keeps_reference(fields: FieldReader) -> bool:
    """Tell whether a reference model stays where its log-probabilities are computed before: one that is given, in every
    release (trl/trainer/dpo_trainer.py, 0.8.6 to 1.16.0), and in some one that is not."""
    kind, versions = fields.given.kind, {"trl": fields.given.versions.of("trl")}
    if not kind.is_own_script and handed_reference(kind.text) is not None:
        return True
    if fields.value("use_peft") is True or kind.trl_script != "dpo":
        return False
    if DPO_KEEPS_REFERENCE.holds_in(versions):
        return True
    # TRL's own script gave one until the trainer loaded it (scripts/dpo.py:110, 0.28.0)
    return kind.is_own_script and not DPO_TAKES_ENTROPY.holds_in(versions)
