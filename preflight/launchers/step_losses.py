"""What a plan takes of a loss that a script's own step makes of its model's logits, or of scores beside a model of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from preflight.errors import Problem
from preflight.formulas.objective import OWN_PAIRS
from preflight.launch_facts import Scorer, StepLoss
from preflight.setting import Place, Setting
from preflight.trainers.arguments import TrainerArguments
from preflight.unpriced_names import SCORES


def priced_step(trainer: TrainerArguments, step: StepLoss | None) -> StepLoss | None:
    """Return what the step of a script takes of logits, where formulas hold all that it runs beside them."""
    if trainer.trainer == "trl" and step is not None:
        return _of_trl(trainer, step)
    loss = trainer.settings.get("loss")
    is_fused = loss is not None and loss.value not in (None, "full_logits")
    if step is None or is_fused or "objective" in trainer.settings:
        return None
    if step.compares == "reference" and not step.has_copy:
        return None
    return step if trainer.trainer in (None, "transformers", "plain_loop") else None


def _of_trl(trainer: TrainerArguments, step: StepLoss) -> StepLoss | None:
    """Return what the step of a trainer takes that stands on TRL's SFT or DPO, and has a loss of its own that was read.

    The one below loads, divides and prepares the reference; where it has none, the step runs the model itself again.
    """
    said = {name: None if s is None else s.value for name in ("loss", "objective", "reference_model") for s in [trainer.settings.get(name)]}  # fmt: skip
    if trainer.own is None or not trainer.own.is_counted or said["loss"] == "fused_linear":
        return None
    if trainer.method == "sft":
        is_read = said["objective"] in (None, "sft") and not step.has_pairs and not step.compares
        return replace(step, is_prepared_below=True) if is_read else None
    is_of_pairs = step.has_pairs and step.forwards == 1 and said["objective"] == "dpo"
    if not is_of_pairs or said["reference_model"] not in (None, "same", "adapter_off"):
        return None
    is_exact = step.is_exact and bool(step.compares)
    return replace(step, is_prepared_below=True, is_exact=is_exact)


def settings_of_step(step: StepLoss) -> dict[str, Setting]:
    """Return the plan fields that a step of the script's own decides."""
    if step.is_prepared_below:
        return {"loss": Setting("full_logits", step.place)}
    found = {"objective": Setting(OWN_PAIRS, step.place)} if step.has_pairs else {}
    if step.compares:
        kind = "same" if step.compares == "reference" else "adapter_off"
        found["reference_model"] = Setting(kind, step.place)
    return found


def doubts_of(step: StepLoss) -> Iterator[Problem]:
    """Yield that a step may take less than its dearest way, which is what is estimated."""
    if step.compares == "reference" and not step.is_prepared_below:
        message = (
            "the reference model is estimated as if every rank held all that nothing surely divides"
        )
        yield Problem.left_out(message, step.place.where, "a reference that is divided", "less")
    if not step.is_exact:
        message = "the loss is estimated as the dearest of the ways that its step may go"
        yield Problem.left_out(message, step.place.where, "cheaper ways through a step", "less")


def priced_scorer(trainer: TrainerArguments, scorer: Scorer | None) -> Scorer | None:
    """Return the module that scores for a loop of a script's own, where nothing else says what it trains for."""
    is_loop = trainer.trainer in (None, "plain_loop") and "objective" not in trainer.settings
    return scorer if is_loop else None


def beside_scorer(held: Mapping[str, Place], scorer: Scorer) -> dict[str, Place]:
    """Return the signs that speak of more than a module that scores: its class and its file are called a reward model."""
    return {
        name: place
        for name, place in held.items()
        if f" {scorer.name} " not in name
        and not (name == SCORES and place.key.startswith("reward_model"))
    }
