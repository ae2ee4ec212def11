"""PF430, PF432, PF434, PF436, PF445: trainer arguments that exclude each other, or the engine.

PF430  checkpointing kwargs that do not name use_reentrant: torch takes the reentrant kind then
PF432  auto_find_batch_size under ZeRO-3 or GRPO, which refuse it
PF434  GaLore and APOLLO without target modules, or their layer-wise kinds under DDP or accumulation
PF436  strategies of saving, evaluation and learning rate that TrainingArguments refuses together
PF445  save_only_model with load_best_model_at_end under FSDP or DeepSpeed
"""

from __future__ import annotations

from collections.abc import Iterable

from preflight.finding import Finding
from preflight.findings import found
from preflight.formulas.optimizers import LOW_RANK
from preflight.formulas.trainer_arguments import (
    NOT_THERE,
    argument,
    checks_groups,
    has_trainer,
    where_of,
)
from preflight.hookspecs import hookimpl
from preflight.launch import LaunchPlan
from preflight.versions.transformers import ZERO3_REFUSES_AUTO_BATCH
from preflight.versions.trl import GRPO_REFUSES_AUTO_BATCH


@hookimpl
def preflight_findings(plan: LaunchPlan) -> Iterable[Finding]:
    """Check the trainer's arguments against each other and the engine."""
    if not has_trainer(plan):
        return
    yield from _checkpointing(plan)
    yield from _auto_batch(plan)
    is_trainers = argument(plan, "optim").value in (None, plan.optimizer)
    if is_trainers and plan.optimizer.startswith(LOW_RANK):
        yield from _low_rank(plan)
    yield from _strategies(plan)


def _checkpointing(plan: LaunchPlan) -> Iterable[Finding]:
    if plan.trainer != "transformers" or plan.activation_checkpointing != "full":
        return
    for name in ("gradient_checkpointing_kwargs", "activation_checkpointing_kwargs"):
        kwargs = argument(plan, name)
        others = set(kwargs.value or ()) - {"every_n_layers", "offload"}
        if isinstance(kwargs.value, dict) and others and "use_reentrant" not in others:
            yield found(
                "PF430",
                f"{name} without use_reentrant is reentrant checkpointing; without kwargs it would not be",
                kwargs.where,
                'add "use_reentrant": false',
                {"checkpointing_reentrant": False},
            )


def _auto_batch(plan: LaunchPlan) -> Iterable[Finding]:
    finder = argument(plan, "auto_find_batch_size")
    if not finder.is_on:
        return
    fix = "--auto_find_batch_size false, and a micro batch that fits"
    if plan.zero_stage == 3 and ZERO3_REFUSES_AUTO_BATCH.holds_in(plan.versions):
        message = "auto_find_batch_size is not supported under ZeRO-3"
        yield found("PF432", message, finder.where, fix)
    elif checks_groups(plan) == "grpo" and GRPO_REFUSES_AUTO_BATCH.holds_in(plan.versions):
        message = (
            "auto_find_batch_size is not supported by GRPO: groups of completions must stay whole"
        )
        yield found("PF432", message, finder.where, fix)


def _low_rank(plan: LaunchPlan) -> Iterable[Finding]:
    name, where = plan.optimizer, where_of(plan, "optimizer")
    is_layerwise, targets = name.endswith("layerwise"), argument(plan, "optim_target_modules")
    is_open = targets is NOT_THERE and bool(plan.trainer_facts.arguments)  # what nobody could read
    has_targets = targets.value is not None or is_open
    if is_layerwise and plan.world_size > 1:
        message = f"{name} trains on one rank only"
        yield found("PF434", message, where, f"--optim {name.removesuffix('_layerwise')}")
    elif is_layerwise and "adafactor" in name:
        message = (
            f"{name} gives Adafactor a learning rate beside steps of its own, which it refuses"
        )
        yield found("PF434", message, where, "--optim galore_adafactor")
    elif plan.zero_stage:
        message = f"{name} projects matrices, and DeepSpeed gives it flat parameters: its first step fails"
        yield found("PF434", message, where, "FSDP2, or another optimizer")
    elif not (has_targets or plan.script_facts.builds_arguments):
        message = f"{name} needs the modules that it projects"
        yield found("PF434", message, where, "--optim_target_modules all-linear")
    elif is_layerwise and plan.gradient_accumulation_steps > 1:
        message = f"{name} steps in backward and cannot accumulate gradients"
        yield found(
            "PF434",
            message,
            where_of(plan, "gradient_accumulation_steps") or where,
            "--gradient_accumulation_steps 1",
            {"gradient_accumulation_steps": 1},
        )


def _strategies(plan: LaunchPlan) -> Iterable[Finding]:
    if plan.script_facts.builds_arguments:
        return
    best, save = argument(plan, "load_best_model_at_end"), argument(plan, "save_strategy").value
    evaluates = argument(plan, "eval_strategy").value
    save, evaluates = (str(word) if word else "no" for word in (save, evaluates))
    if best.is_on and save != "best":
        if save != evaluates:
            yield found(
                "PF436",
                f"load_best_model_at_end wants one strategy for saving and evaluation: {save} is not {evaluates}",
                best.where,
                f"--eval_strategy {save}" if save != "no" else f"--save_strategy {evaluates}",
            )
        elif evaluates == "steps":
            yield from _steps(plan, best.where)
    scheduler = argument(plan, "lr_scheduler_type")
    if str(scheduler.value) in ("reduce_lr_on_plateau", "greedy") and evaluates == "no":
        yield found(
            "PF436",
            f"lr_scheduler_type {scheduler.value} follows the evaluation loss, and nothing is evaluated",
            scheduler.where,
            "--eval_strategy steps",
        )
    only = argument(plan, "save_only_model")
    if only.is_on and best.is_on and (plan.is_fsdp or plan.zero_stage is not None):
        wrapper = "FSDP" if plan.is_fsdp else "DeepSpeed"
        yield found(
            "PF445",
            f"{wrapper} cannot load the best model from checkpoints of the model alone",
            only.where or best.where,
            "--save_only_model false",
        )


def _steps(plan: LaunchPlan, where: str) -> Iterable[Finding]:
    saved, evaluated = argument(plan, "save_steps").value, argument(plan, "eval_steps").value
    if evaluated is None:
        evaluated = argument(plan, "logging_steps").value
    if not all(isinstance(n, (int, float)) and n >= 1 for n in (saved, evaluated)):
        return  # shares of the run: compared when it is known how long that is
    if saved % evaluated:
        yield found(
            "PF436",
            f"load_best_model_at_end wants save_steps {saved:g} to be a multiple of eval_steps {evaluated:g}",
            where,
            f"--save_steps {int(evaluated) * max(1, round(saved / evaluated))}",
        )
