"""Layers of which no trace was taken as a launch runs them, as notices that keep a verdict honest."""

from __future__ import annotations

from collections.abc import Iterator

from preflight.device import DeviceSpec
from preflight.errors import Problem
from preflight.formulas.adapters.adapted_experts import adapted_stacks, is_fused
from preflight.formulas.adapters.adapters import adapter_targets
from preflight.formulas.adapters.linear_experts import LOOPED_STACKS
from preflight.formulas.adapters.unpacked_experts import KEEPS_BEHIND_EXPERTS, packs_experts
from preflight.formulas.cost_tables import has_kernels, has_own_release, method_of
from preflight.formulas.layers.checkpointing import is_reentrant
from preflight.formulas.layers.installed_kernels import (
    KERNELS,
    kernel_packages,
    loops_over_experts,
    scans_as_newest,
)
from preflight.formulas.layers.layer_coefficients import counts_idle_experts, has_rows, not_derived
from preflight.formulas.layers.shared_keys import is_before_sharing, with_own_keys
from preflight.formulas.precision import precision_of
from preflight.formulas.trainer_arguments import where_of
from preflight.formulas.user_loop import has_own_model_code
from preflight.launch import LaunchPlan
from preflight.model import ModelSpec
from preflight.unpriced_names import LOOPED_EXPERTS, OLMO_CORE, PACKED_EXPERTS
from preflight.values import replace
from preflight.versions.peft import FOLDS_DELTAS
from preflight.versions.transformers import (
    FUSES_EXPERTS,
    GATHERS_ROWS_ONCE,
    GEMMA4_SHARES_KEYS,
    GPTJ_HAS_SDPA,
)

UNTRACED = "what the layers keep and need in passing"
FUSED = "fused kernels"


def untraced(
    plan: LaunchPlan, model: ModelSpec, device: DeviceSpec | None = None
) -> Iterator[Problem]:
    """Yield what layers take in this launch that was derived in no trace, or with other kernels; nothing of OLMo-core's own layers,
    whose bound is of them all."""
    if any(notice.unpriced == OLMO_CORE for notice in plan.notices):
        from preflight.formulas.olmo_core import is_bounded  # few launches run them

        if is_bounded(plan, model):
            return
    without = not_derived(plan, model, precision_of(plan, model))
    if without:
        yield _untraced(
            f"what a layer of {model.model_type} takes was not derived for {without}: the estimate guesses it",
            "the model's config",
            "`preflight trace` runs the model itself",
            takes="either",
        )
    if not has_kernels(plan, model):
        yield _of_fused_kernels(plan, model)
    if plan.trainer == "litgpt" and not without:
        yield from _of_litgpt(plan, model)
    yield from _of_older_layers(plan, model)
    if packs_experts(plan):
        yield from _of_packed_experts(plan, model)
    packages = kernel_packages(model)
    if packages and not without:
        yield _of_packages(plan, model, packages, device)


def _of_litgpt(plan: LaunchPlan, model: ModelSpec) -> Iterator[Problem]:
    from preflight.formulas.layers.lit_layers import is_borne_out  # no other's are

    if not is_borne_out(plan, model):
        yield _untraced(
            f"litgpt runs model code of its own, and what {model.model_type} takes in it was not borne out for this launch:"
            " it was counted for dense layers without capped scores, in one dtype and not compiled, with LoRA on one card",
            "the model's config",
            "--precision bf16-true of a whole dense model, or LoRA on one card, is counted",
            takes="either",
        )


def _untraced(message: str, where: str, fix: str, takes: str) -> Problem:
    """Return what to say of layers of which no trace was taken as this launch runs them."""
    return Problem.left_out(message, where, UNTRACED, takes, fix, "PF129")


def _of_fused_kernels(plan: LaunchPlan, model: ModelSpec) -> Problem:
    return Problem(
        f"what {', '.join(plan.kernels or ())} save in {model.model_type} under {plan.engine} is not taken off: the"
        " estimate has the model's own modules, which take more",
        where_of(plan, "kernels"),
        "nothing where it fits",
        "PF143",
        "info",
        unpriced=FUSED,
        takes="less",
    )


def _of_older_layers(plan: LaunchPlan, model: ModelSpec) -> Iterator[Problem]:
    """Yield what layers take otherwise in a release, or under an adapter, that no trace was taken of."""
    precision = precision_of(plan, model)
    if counts_idle_experts(plan, model, precision):
        yield _untraced(
            f"layers of {model.model_type} were traced with adapters on every expert, and this adapter leaves some or all of their weights alone",
            "the adapter's target modules",
            "`preflight trace` runs the model itself",
            takes="less",
        )
    if is_before_sharing(plan, model) and with_own_keys(plan, model) is model:
        yield _untraced(
            f"layers of {model.model_type} that share keys make their own before transformers {GEMMA4_SHARES_KEYS.since}",
            "the release of transformers",
            "transformers 5.6 or newer",
            takes="more",
        )
    method = method_of(plan, precision)
    is_older = is_fused(plan, model) and not GATHERS_ROWS_ONCE.holds_in(plan.versions)
    if is_older and not has_own_release(plan, model, method):
        yield _untraced(
            f"experts of {model.model_type} keep more in transformers before {GATHERS_ROWS_ONCE.since} than they were traced with",
            "the release of transformers",
            f"--set versions.transformers={GATHERS_ROWS_ONCE.since} or newer, where that is so",
            takes="more",
        )
    loops = model.model_type in LOOPED_STACKS and not FUSES_EXPERTS.holds_in(plan.versions)
    is_costly = plan.adapter is None or method.startswith("QLoRA, prepared")
    if loops and is_costly and not has_own_release(plan, model, method):
        looped = _untraced(
            f"experts of {model.model_type} are indexed one by one in transformers before {FUSES_EXPERTS.since}: the gradient"
            " of each is as large as that of all, and the copies that autocast makes of fp32 ones stay",
            "the release of transformers",
            "`preflight trace` runs the model itself",
            takes="more",
        )
        yield replace(looped, unpriced=LOOPED_EXPERTS if plan.adapter is None else UNTRACED)
    if _runs_untraced_eagerly(plan, model) and not has_own_release(plan, model, method):
        yield _untraced(
            f"eager attention of {model.model_type} casts queries and keys, and was traced in transformers before 5.5 alone",
            "the release of transformers",
            "`preflight trace` runs the model itself",
            takes="more",
        )


def _of_packed_experts(plan: LaunchPlan, model: ModelSpec) -> Iterator[Problem]:
    """Yield what packed stacks of experts take where no count holds."""
    is_stopped = plan.activation_checkpointing != "none" and not is_reentrant(plan)
    stays = is_stopped and model.model_type not in KEEPS_BEHIND_EXPERTS
    targets = adapter_targets(plan.adapter, model) if plan.adapter is not None else ()
    if plan.is_fsdp or plan.engine == "zero3":
        why, takes = f"under {plan.engine}: how they are divided", "either"
    elif adapted_stacks(plan, model, targets) and not _is_counted_below_adapters(plan):
        why, takes = "below an adapter on them", "either"
    elif not has_rows(plan, model):
        why, takes = f"of {model.model_type}", "either"
    elif stays:
        # a checkpoint that is not reentrant stops before the hook that clears bitsandbytes' cache, which is so kept for
        # good (nn/parametrize.py before 0.50, run on 0.49.1)
        why, takes = (
            "that bitsandbytes before 0.50 never lets go of once a checkpoint unpacked them",
            "more",
        )
    else:
        return
    yield Problem.left_out(
        f"experts that are packed while they are loaded are not counted {why}",
        where_of(plan, "base_quantization"),
        PACKED_EXPERTS,
        takes,
        id="PF129",
    )


def _is_counted_below_adapters(plan: LaunchPlan) -> bool:
    """Tell whether packed stacks were traced below adapters: layers that are run again, by a PEFT that unpacks them."""
    from preflight.versions.axolotl import ORDERS_STACKS  # few launches have such stacks

    is_unpacked = ORDERS_STACKS.holds_in(plan.versions) and not FOLDS_DELTAS.holds_in(plan.versions)
    return plan.activation_checkpointing == "full" and is_unpacked


def _of_packages(
    plan: LaunchPlan, model: ModelSpec, packages: tuple[str, ...], device: DeviceSpec | None
) -> Problem:
    method = method_of(plan, precision_of(plan, model))
    has_table = has_own_release(plan, model, method) and not loops_over_experts(plan, model)
    is_read = scans_as_newest(plan, model, device) or has_table
    return Problem.left_out(
        f"layers of {model.model_type} are counted as transformers{'' if is_read else ' 5.18'} runs them without"
        f" {' and '.join(packages)}: with these they take less"
        + ("" if is_read else ", and without these an older release takes more"),
        "the model's config",
        KERNELS,
        "less" if is_read else "either",
        "--set versions.transformers=5.18.0 or newer, where that is so"
        if not is_read
        else "nothing where it fits; `preflight trace` runs the model itself",
        "PF129",
    )


def _runs_untraced_eagerly(plan: LaunchPlan, model: ModelSpec) -> bool:
    """Tell whether GPT-J runs eagerly, with scores in fp32 (models/gptj/modeling_gptj.py, 4.44.2 to 5.23)."""
    if model.model_type != "gptj" or has_own_model_code(plan):
        return False
    attention = plan.attention or "sdpa"
    has_sdpa = GPTJ_HAS_SDPA.holds_in(plan.versions)
    return attention == "eager" or (attention == "sdpa" and not has_sdpa)
