"""What the user's loop costs, by formula and by trace: the tables of docs/user-loop.md."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from preflight.derive.costs.formula_table import live_at
from preflight.derive.layouts.small_models import plan_of, small_config
from preflight.derive.layouts.small_sizes import NUM_VARIANTS
from preflight.derive.target import ROOT, Files, Say, put_between, read
from preflight.formulas.cost_tables import method_of
from preflight.formulas.layers.layer_coefficients import shared_forms
from preflight.formulas.precision import precision_of
from preflight.formulas.user_loop import LOSS_RULES, LossBytes, LossRule, loss_bytes
from preflight.judge import estimate_memory
from preflight.launch import LaunchPlan
from preflight.memory import Moment
from preflight.models import describe
from preflight.plugin_manager import PluginManager
from preflight.plugins import load_plugins
from preflight.trace.job import job_of
from preflight.trace.log import (
    LAYER_BACKWARD,
    LAYER_FORWARD,
    LOSS,
    LOSS_BACKWARD,
    OPTIMIZER,
    WEIGHT_COPIES,
)
from preflight.values import dataclass

PAGE = "docs/user-loop.md"
BEGIN, END = "<!-- what a loop costs -->", "<!-- end of what a loop costs -->"
PARTS = {
    Moment.FORWARD: LAYER_FORWARD,
    Moment.LOSS_FORWARD: LOSS,
    Moment.LOSS_BACKWARD: LOSS_BACKWARD,
    Moment.FIRST_LAYER_BACKWARD: LAYER_BACKWARD,
    Moment.OPTIMIZER_STEP: OPTIMIZER,
}
IN_MIXED_PRECISION = {"load_dtype": "fp32", "mixed_precision": "bf16"}
TRL = {"trainer": "trl", "loss": "chunked_linear"}


@dataclass(frozen=True)
class Feature:
    """Two small launches that differ in one habit of the loop."""

    name: str
    said_by: str
    """The plan field or version rule that decides it."""
    edits: Mapping[str, Any]
    """Plan fields of both."""
    change: Mapping[str, Any]
    moment: Moment
    is_second_step: bool = False


FEATURES = (
    Feature("outputs kept across backward", "keeps_outputs", {}, {"keeps_outputs": True},
            Moment.LOSS_BACKWARD),
    Feature("outputs kept into the next forward", "keeps_outputs", {}, {"keeps_outputs": True},
            Moment.FORWARD, True),
    Feature("outputs dropped behind the step, not behind backward", "keeps_outputs",
            {"keeps_outputs": "backward"}, {"keeps_outputs": "step"}, Moment.OPTIMIZER_STEP, True),
    Feature("outputs kept into the next forward, not dropped behind the step", "keeps_outputs",
            {"keeps_outputs": "step"}, {"keeps_outputs": True}, Moment.FORWARD, True),
    Feature("outputs kept by a plain loop", "OUTPUT_RULES", {"trainer": "transformers"},
            {"trainer": "plain_loop"}, Moment.LOSS_BACKWARD),
    Feature("outputs kept under autocast, which accelerate casts to fp32", "keeps_outputs",
            IN_MIXED_PRECISION, {"keeps_outputs": True}, Moment.LOSS_BACKWARD),
    Feature("gradients zeroed, not dropped", "zero_grad_set_to_none", {},
            {"zero_grad_set_to_none": False}, Moment.FORWARD, True),
    Feature("padding mask, sdpa", "sequence_kind, HAS_BOOL_MASK", {},
            {"sequence_kind": "padded"}, Moment.FORWARD),
    Feature("padding mask, sdpa, checkpointed", "sequence_kind, HAS_BOOL_MASK",
            {"activation_checkpointing": "full"}, {"sequence_kind": "padded"}, Moment.LOSS_FORWARD),
    Feature("padding mask, flash attention", "sequence_kind", {"attention": "flash_attention_2"},
            {"sequence_kind": "padded"}, Moment.FORWARD),
    Feature("AdamW, foreach instead of fused", "optimizer, optimizer_kernel", {},
            {"optimizer": "adamw_torch"}, Moment.OPTIMIZER_STEP, True),
    Feature("AdamW, a loop over tensors instead of fused", "optimizer_kernel",
            {"trainer": "transformers"},
            {"optimizer": "adamw_torch", "optimizer_kernel": "for_loop"}, Moment.OPTIMIZER_STEP, True),
    Feature("RMSprop, foreach instead of a loop", "optimizer_kernel",
            {"optimizer": "rmsprop", "optimizer_kernel": "for_loop"},
            {"optimizer_kernel": "foreach"}, Moment.OPTIMIZER_STEP, True),
    Feature("Adagrad, foreach instead of a loop", "optimizer_kernel",
            {"optimizer": "adagrad", "optimizer_kernel": "for_loop"},
            {"optimizer_kernel": "foreach"}, Moment.OPTIMIZER_STEP, True),
    Feature("SGD, foreach instead of a loop", "optimizer_kernel",
            {"optimizer": "sgd", "optimizer_kernel": "for_loop"},
            {"optimizer_kernel": "foreach"}, Moment.OPTIMIZER_STEP, True),
    Feature("TRL's fused head, forward", "loss, FUSES_HEAD", {}, TRL, Moment.LOSS_FORWARD),
    Feature("TRL's fused head, backward", "loss, FUSES_HEAD", {}, TRL, Moment.LOSS_BACKWARD),
)  # fmt: skip


@dataclass(frozen=True)
class Cost:
    """Bytes of one habit, counted twice."""

    name: str
    said_by: str
    formula_bytes: int
    traced_bytes: int


def cost_of(feature: Feature, plugins: PluginManager) -> Cost:
    """Return what the second launch of a feature has more than the first, by formula and by trace."""
    spec = describe(small_config("llama", NUM_VARIANTS), "llama", "small_models.py")
    without = plan_of("full", False).with_edits(feature.edits)
    plans = (without, without.with_edits(feature.change))
    formula, traced = (
        [found(plan, spec, feature.moment, feature.is_second_step) for plan in plans]
        for found in (_formula(plugins), _traced)
    )
    return Cost(feature.name, feature.said_by, formula[1] - formula[0], traced[1] - traced[0])


def _formula(plugins: PluginManager) -> Callable[[LaunchPlan, Any, Moment, bool], int]:
    def found(plan: LaunchPlan, spec: Any, moment: Moment, is_second_step: bool) -> int:
        terms = estimate_memory(plan, spec, None, plugins, ()).terms
        return live_at(terms, moment, is_second_step)

    return found


def _traced(plan: LaunchPlan, spec: Any, moment: Moment, is_second_step: bool) -> int:
    from preflight.trace.run import trace

    return max(
        level.peak_bytes
        for level in trace(job_of(plan, spec)).levels
        if level.part.name == PARTS[moment] and level.part.step == is_second_step
    )


def weight_copies(checkpointing: bool, plugins: PluginManager) -> Cost:
    """Return autocast's copies of fp32 weights at the end of forward."""
    from preflight.trace.run import trace

    spec = describe(small_config("llama", NUM_VARIANTS), "llama", "small_models.py")
    plan = plan_of("full", checkpointing).with_edits(IN_MIXED_PRECISION)
    formula = sum(
        term.num_bytes
        for term in estimate_memory(plan, spec, None, plugins, ()).terms
        if "copies of weights" in term.name and Moment.LOSS_FORWARD in term.moments
    )
    beside_layers = shared_forms(
        plan, spec, method_of(plan, precision_of(plan, spec)), checkpointing
    )
    assert beside_layers is not None
    formula += (
        beside_layers["loss"]["hV"] * spec.head_params
    )  # the head's copy stands with the loss
    traced = max(
        sum(size for (category, _), size in level.at_peak.items() if category == WEIGHT_COPIES)
        for level in trace(job_of(plan, spec)).levels
        if level.part.name == LOSS and level.part.step == 0
    )
    how = ", checkpointed" if checkpointing else ""
    return Cost(
        f"autocast's copies of weights{how}", "mixed_precision, load_dtype", formula, traced
    )


Taken = Callable[[Any, Any, int], tuple[Any, Any]]
"""From logits, labels and vocabulary to what the model returns and the loss."""


def loss_code() -> dict[LossRule, Taken]:
    """Return the operations of every rule of LOSS_RULES, as its source has them."""
    from torch.nn.functional import cross_entropy

    def shifted(logits: Any, labels: Any, vocab: int) -> Any:
        rows = logits[..., :-1, :].contiguous().view(-1, vocab)
        return cross_entropy(rows, labels[..., 1:].reshape(-1))

    def upcast_by_the_model(logits: Any, labels: Any, vocab: int) -> tuple[Any, Any]:
        logits = logits.float()
        return logits, shifted(logits, labels, vocab)

    def upcast_and_copied(logits: Any, labels: Any, vocab: int) -> tuple[Any, Any]:
        return logits, shifted(logits.float(), labels, vocab)

    def upcast(logits: Any, labels: Any, vocab: int) -> tuple[Any, Any]:
        return logits, cross_entropy(logits.float().view(-1, vocab), labels.view(-1))

    def upcast_output(logits: Any, labels: Any, vocab: int) -> tuple[Any, Any]:
        logits = logits.float()
        return logits, cross_entropy(logits.view(-1, vocab), labels.view(-1))

    def in_own_dtype(logits: Any, labels: Any, vocab: int) -> tuple[Any, Any]:
        return logits, shifted(logits, labels, vocab)

    by_copies: dict[tuple[bool, bool], Taken] = {
        (True, True): upcast_by_the_model,
        (True, False): upcast_output,
        (False, True): upcast_and_copied,
        (False, False): upcast,
    }
    return {
        rule: by_copies[rule.upcasts_in_model, rule.copies_shifted]
        if rule.upcasts
        else in_own_dtype
        for rule in LOSS_RULES
    }


def traced_loss(take: Taken, dtype: str, batch: int) -> LossBytes:
    """Return bytes per logit of a loss, run on tensors without data after a head in `dtype`."""
    import torch

    from preflight.trace.built import torch_dtype
    from preflight.trace.log import AllocationLog, Part
    from preflight.trace.recorder import Recorder, recording

    length, hidden, vocab = 64, 8, 4096
    recorder = Recorder(AllocationLog(), "meta")
    make = {"dtype": torch_dtype(dtype), "device": "meta", "requires_grad": True}
    states, weight = torch.empty(batch, length, hidden, **make), torch.empty(vocab, hidden, **make)
    labels = torch.empty(batch, length, dtype=torch.long, device="meta")
    for tensor in (states, weight, labels):
        recorder.hold(tensor, "inputs")
    recorder.log.mark(Part(0, 0, LOSS))
    with recording(recorder):
        # nothing here may hold the head's own logits: a model that upcasts them does not
        outputs, loss = take(torch.nn.functional.linear(states, weight), labels, vocab)
        num_bytes = outputs.nbytes
        del outputs
        recorder.log.mark(Part(0, 0, LOSS_BACKWARD))
        loss.backward()
    _, forward, backward = recorder.log.parts()
    entries = batch * length * vocab
    kept = sum(forward.at_end.values())
    return LossBytes(
        round(sum(forward.at_peak.values()) / entries),
        round((kept + sum(backward.at_peak.values())) / entries),
        num_bytes // entries,
        "",
    )


def ruled_loss(rule: LossRule, dtype: str, batch: int) -> LossBytes:
    """Return bytes per logit of a model and release that a rule is for."""
    version = rule.since.since if rule.since is not None else "0.0.1"
    plan = LaunchPlan(
        trainer=rule.trainer, versions={rule.trainer: version}, micro_batch_size=batch
    )
    model_type = min(rule.only, default="")
    return loss_bytes(plan, 4 if dtype == "fp32" else 2, model_type=model_type)


def table_lines(costs: Iterable[Cost]) -> list[str]:
    """Return both tables in Markdown."""
    lines = [
        "| what the loop does | decided by | formula, bytes | trace, bytes |",
        "|---|---|--:|--:|",
    ]
    lines += [
        f"| {c.name} | `{c.said_by}` | {c.formula_bytes:,} | {c.traced_bytes:,} |" for c in costs
    ]
    lines += [
        "",
        "| whole logits in bf16, two sequences | forward | backward | of the outputs |"
        " traced | source |",
        "|---|--:|--:|--:|---|---|",
    ]
    code = loss_code()
    for rule in LOSS_RULES:
        ruled = ruled_loss(rule, "bf16", 2)
        traced = traced_loss(code[rule], "bf16", 2)
        since = rule.since.since if rule.since is not None else "the beginning"
        same = "the same" if traced[:3] == ruled[:3] else " / ".join(map(str, traced[:3]))
        lines.append(
            f"| {rule.trainer} since {since}{_types_of(rule)} | {ruled.forward} | {ruled.backward} |"
            f" {ruled.outputs} | {same} | {rule.source} |"
        )
    return lines


def _types_of(rule: LossRule) -> str:
    return f", {' '.join(sorted(rule.only))}" if rule.only else ""


def all_costs(plugins: PluginManager) -> list[Cost]:
    """Return every row of the first table."""
    costs = [cost_of(feature, plugins) for feature in FEATURES]
    return costs + [weight_copies(checkpointing, plugins) for checkpointing in (False, True)]


def files(say: Say) -> Files:
    """Yield the page with both tables."""
    yield PAGE, put_between(read(PAGE), BEGIN, END, table_lines(all_costs(load_plugins(str(ROOT)))))
