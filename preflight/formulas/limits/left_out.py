"""What a plan and its model hold together that no formula counts, as notices that keep a verdict honest."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from preflight.device import DeviceSpec
from preflight.errors import Problem
from preflight.formulas.adapters.adapted_names import left_out_of_adapter
from preflight.formulas.adapters.other_adapters import not_known
from preflight.formulas.engines.engines import engine_bytes
from preflight.formulas.engines.pipelines import is_divisible
from preflight.formulas.engines.rollouts import starts_engines
from preflight.formulas.layers.heads import left_out_of_encoder
from preflight.formulas.layers.kernels import LIGER_BY_CALL, LIGER_TYPES, WITHOUT_FUSED_LOSS
from preflight.formulas.limits.left_out_of_answers import left_out_of_answers
from preflight.formulas.limits.untraced import untraced
from preflight.formulas.objective import COMPARED, LANGUAGE_MODEL, ONLINE, is_of_trl
from preflight.formulas.objectives.actor_losses import pads_to_the_cap
from preflight.formulas.objectives.generated_answers import generates
from preflight.formulas.optimizers import LOW_RANK, MUON, NUM_STATES, is_known
from preflight.formulas.trainer_arguments import argument, where_of
from preflight.formulas.user_loop import has_own_model_code
from preflight.formulas.vision import may_see
from preflight.launch import LaunchPlan
from preflight.lazy_pattern import lazy_pattern
from preflight.model import BY_FOLDER, NORM, ModelSpec
from preflight.near_names import nearest_fix
from preflight.plan_parts import PROJECTOR, SET_ORIGIN
from preflight.units import format_gib
from preflight.unpriced_names import (
    BESIDE_TEXT,
    FLOAT8,
    FP8,
    GATHERED_LOGITS,
    SCATTERED,
    SVD_WORKSPACE,
)
from preflight.values import replace
from preflight.versions.transformers import MLLAMA_BY_LAYER

TOO_SMALL = "an engine that does not start"
LENGTH_OF_IMAGES = "how long rows with images are"
STAGES, ON_PARAMETERS = "stages of a pipeline", "an adapter on parameters"
_MORE_STATES = lazy_pattern(
    r"\b(?:momentum\s*=\s*(?!0(?:\.0*)?\s*(?:,|$))|use_kahan|kahan_sum|\w+_dtype)"
)
"""What asks an optimizer of Trainer's for a state more, or for states of another width (trainer_optimizer.py, 5.24)."""
UNCOUNTED_ARGUMENTS: tuple[tuple[str, Callable[[Any], bool], str, str], ...] = (
    ("torch_compile_mode", ("reduce-overhead", "max-autotune").__contains__, "CUDA graphs", "more"),
    ("torch_compile_backend", "cudagraphs".__eq__, "CUDA graphs", "more"),
    ("lora_target_parameters", bool, ON_PARAMETERS, "more"),
    (
        "optim_args",
        lambda said: bool(_MORE_STATES.search(str(said))),
        "states that optim_args ask for",
        "more",
    ),
)
"""Argument of Trainer or TRL, which of its values add something, what, and what that takes beside the estimate."""
ANOTHER_MODEL = "another model, if the folder holds one"


def with_left_out(
    plan: LaunchPlan, model: ModelSpec, device: DeviceSpec | None = None
) -> LaunchPlan:
    """Return the plan with a notice for everything that plan and model bring and no formula counts, each once.

    Those of the plan that this one was edited from are dropped: what an edit takes away is not left out any more.
    """
    is_seen = model.tower is not None and not _is_left_out(plan, model)
    counted = {BESIDE_TEXT} if is_seen or model.facts.get("hears") else set()
    counted |= _parts_of_its_own(plan, model) if is_seen else set()
    if generates(plan, model):  # answers are gathered there, and no logits
        counted.add(GATHERED_LOGITS)
    kept = tuple(
        notice
        for notice in plan.notices
        if not notice.is_of_plan and notice.unpriced not in counted
    )
    plan = plan if len(kept) == len(plan.notices) else replace(plan, notices=kept)
    said = {notice.unpriced for notice in plan.notices}
    said |= {ON_PARAMETERS} if SCATTERED in said else set()
    new = tuple(
        replace(notice, is_of_plan=True)
        for notice in _left_out(plan, model, device)
        if notice.unpriced not in said
    )
    return replace(plan, notices=(*plan.notices, *new)) if new else plan


def _parts_of_its_own(plan: LaunchPlan, model: ModelSpec) -> set[str]:
    """Return what classes of the script's own add to the model, where they are the parts that the model is counted with: as
    the code of a checkpoint's own format is, `InternVLChatModel` for one."""
    projector = [
        tensor for unit in model.units if unit.role == PROJECTOR for tensor in unit.tensors
    ]
    modules = dict.fromkeys((each.module, "LayerNorm" if each.kind == NORM else "Linear") for each in projector)  # fmt: skip
    counted = tuple(kind for _, kind in modules)
    is_model_loss = plan.objective in LANGUAGE_MODEL
    own = plan.script_facts.composites if is_model_loss else {}
    return {name for name, modules_of_it in own.items() if modules_of_it == counted}


def is_cut_only(plan: LaunchPlan) -> bool:
    """Tell whether the length of a launch is where its rows are cut, and may be longer than any of them."""
    if plan.seq_len is None or plan.command is None:
        return False
    if makes_rows(plan):
        return not pads_to_the_cap(plan)
    if plan.sequence_kind == "packed":  # TRL's DPO puts a micro batch into one row, and fills none
        return plan.objective in COMPARED and is_of_trl(plan)
    return plan.sequence_kind != "fixed"


def makes_rows(plan: LaunchPlan) -> bool:
    """Tell whether completions end where the model ends them, before the most that they may have: no data says when."""
    return plan.generation is not None and plan.objective in ONLINE


def _left_out(plan: LaunchPlan, model: ModelSpec, device: DeviceSpec | None) -> Iterator[Problem]:
    yield from _of_another_model(plan, model)
    yield from _unknown_arithmetic(plan)
    if plan.optimizer.startswith(LOW_RANK):
        yield from _of_low_rank(plan, model)
    yield from _unread_arguments(plan)
    yield from _without_liger(plan, model)
    yield from _of_stages(plan, model)
    if device is not None and starts_engines(plan) and model.layers:
        yield from _of_an_engine(plan, model, device)
    yield from left_out_of_encoder(plan, model)
    yield from left_out_of_answers(plan)
    if plan.is_read:
        yield from _of_images(plan, model)
    yield from untraced(plan, model, device)
    yield from left_out_of_adapter(plan, model)
    yield from not_known(plan, model)


def _of_another_model(plan: LaunchPlan, model: ModelSpec) -> Iterator[Problem]:
    """Yield that a model is known by the name of a folder alone, which is not here."""
    if model.like is not None and model.like.evidence == BY_FOLDER:
        yield Problem.left_out(
            f"there is no folder {plan.model} here: it is taken for {model.like.model}, by its name alone",
            where_of(plan, "model"),
            ANOTHER_MODEL,
            "less",
            f"--set model={model.like.model} where that is so, or --set model_config=FILE",
            "PF150",
        )


def _of_stages(plan: LaunchPlan, model: ModelSpec) -> Iterator[Problem]:
    """Yield that a model's layers cannot be divided over the stages of a pipeline as the formula does."""
    if plan.pipeline is not None and not is_divisible(plan.pipeline, model):
        yield Problem.left_out(
            f"every rank is estimated with all of {model.name}: its layers are of several kinds, share a weight between"
            " stages, or are fewer than those",
            where_of(plan, "pipeline"),
            STAGES,
            "either",
        )


def _of_an_engine(plan: LaunchPlan, model: ModelSpec, device: DeviceSpec) -> Iterator[Problem]:
    """Yield that an inference engine is given less of the card than it starts with."""
    engine = engine_bytes(plan, model, device)
    if engine.asked < engine.least:
        yield Problem(
            f"vLLM refuses to start with {format_gib(engine.asked)} of the card: its weights, a forward and one"
            f" sequence take {format_gib(engine.least)}",
            "vllm_gpu_memory_utilization",
            "a larger share, more --vllm_tensor_parallel_size, or a shorter --vllm_max_model_length",
            severity="warning",
            unpriced=TOO_SMALL,
            takes="either",
        )


def _of_images(plan: LaunchPlan, model: ModelSpec) -> Iterator[Problem]:
    """Yield what a launch that was read may show beside text, and what that does to its length."""
    if _is_left_out(plan, model):
        yield Problem.left_out(
            f"{model.name} takes images or audio too: the estimate has its weights and counts text alone",
            "the model's config",
            BESIDE_TEXT,
            "more",
            "nothing where the rows are text alone: it takes what is counted",
            "PF126",
        )
    if may_see(plan, model) and is_cut_only(plan) and where_of(plan, "seq_len") != SET_ORIGIN:
        yield Problem.left_out(
            f"rows with images are as long as what they show: few reach the {plan.seq_len:,} tokens at which they are cut",
            "the length of rows",
            LENGTH_OF_IMAGES,
            "less",
            "--set seq_len=N, the longest row of the data",
            "PF126",
        )


def _unknown_arithmetic(plan: LaunchPlan) -> Iterator[Problem]:
    """Yield what the plan alone names and no formula knows: an optimizer, a number format."""
    if plan.optimizer == MUON and plan.engine not in ("single", "ddp"):
        yield Problem.left_out(
            "what Muon gathers of matrices that are divided over ranks is not counted",
            where_of(plan, "optimizer"),
            "the states of muon",
            "either",
            "--set optimizer=adamw_torch estimates the launch with AdamW",
            "PF406",
        )
    if not (is_known(plan.optimizer) or plan.optimizer.startswith(LOW_RANK)):
        yield Problem.left_out(
            f"optimizer {plan.optimizer} is not known: the estimate has AdamW's two states per parameter",
            where_of(plan, "optimizer"),
            f"the states of {plan.optimizer}",
            "either",
            nearest_fix(plan.optimizer, (*NUM_STATES, "adafactor"))
            or "`--set optimizer=adafactor`, or another of the Trainer's names, estimates that one",
            "PF406",
        )
    is_named = any(notice.unpriced == FLOAT8 for notice in plan.notices)
    if plan.mixed_precision == "fp8" and not is_named:
        yield Problem.left_out(
            "fp8 matrices are estimated as the 16-bit ones that they are made from",
            where_of(plan, "mixed_precision"),
            FP8,
            "either",
            "--set mixed_precision=bf16 estimates the launch without them",
        )


def _of_low_rank(plan: LaunchPlan, model: ModelSpec) -> Iterator[Problem]:
    """Yield what is not counted of an optimizer that projects gradients: its states, and the workspace of decompositions."""
    from preflight.formulas.low_rank import (
        is_priced,
        is_within_adamw,
        may_decompose,
    )  # few have any

    where, is_within = where_of(plan, "optimizer"), is_within_adamw(plan, model)
    if not is_priced(plan, model):
        yield Problem.left_out(
            f"the low-rank states of {plan.optimizer} are estimated as AdamW's two of every matrix"
            + (", which are no less" if is_within else ""),
            where,
            f"the states of {plan.optimizer}",
            "less" if is_within else "either",
            "`--set low_rank.targets=all-linear` estimates it on every linear layer, where no engine divides them",
            "PF406",
        )
    if may_decompose(plan):
        yield Problem.left_out(
            f"what CUDA's library takes for an SVD of {plan.optimizer} is bounded, and counted in no finer way",
            where,
            SVD_WORKSPACE,
            "more",
            id="PF406",
        )


def _unread_arguments(plan: LaunchPlan) -> Iterator[Problem]:
    """Yield what an argument of the trainer switches on and no formula counts."""
    for name, is_asked, unpriced, takes in UNCOUNTED_ARGUMENTS:
        said = argument(plan, name)
        if said.value is not None and is_asked(said.value):
            yield Problem.left_out(
                f"{name} {said.value} adds {unpriced}, which the estimate does not count",
                said.where,
                unpriced,
                takes,
                f"leave {name} out to have the rest judged",
            )


def _without_liger(plan: LaunchPlan, model: ModelSpec) -> Iterator[Problem]:
    """Yield that Liger's kernels are asked for of a type that it has none for: its loss is one over whole logits then.

    TRL's losses of pairs and of answers are Liger's own classes, whatever the model is.
    """
    by_call = argument(plan, LIGER_BY_CALL)
    asked = by_call if by_call.value else argument(plan, "use_liger_kernel")
    own = str(model.facts.get("top_model_type", model.model_type))
    is_fused = plan.loss == "fused_linear" and plan.objective in LANGUAGE_MODEL
    if not is_fused or not asked.value:
        return
    told = by_call.value or argument(plan, "liger_kernel_config").value or {}
    wanted = told.get("model_type", "")
    is_its_type = own == wanted or own.startswith(f"{wanted}_") if wanted else own in LIGER_TYPES
    is_whole = own in WITHOUT_FUSED_LOSS and not told.get("fused_linear_cross_entropy")
    if not is_its_type or is_whole:
        kind = f"kernels for {own} models" if not is_its_type else f"fused loss of {own} models"
        yield Problem.left_out(
            f"Liger puts in no {kind}: the loss stays one over whole logits",
            asked.where,
            "a loss that Liger does not fuse",
            "more",
            "leave it out to have the launch judged as it runs",
        )


def _is_left_out(plan: LaunchPlan, model: ModelSpec) -> bool:
    """Tell whether a launch may train on what no formula counts: sound, or images in a tower that nobody traced."""
    if not may_see(plan, model):
        return False
    hears = any(
        isinstance(value, Mapping) and name.startswith("audio")
        for name, value in model.config.items()
    )
    if model.tower is not None and model.tower.is_apart:
        return not _says_images(plan) or _attends_otherwise(plan)
    return model.tower is None or (hears and not _says_images(plan))


def _attends_otherwise(plan: LaunchPlan) -> bool:
    """Tell whether layers that attend to images do so in a way, or in a release, that nobody traced."""
    is_traced = plan.attention in ("sdpa", None) and MLLAMA_BY_LAYER.holds_in(plan.versions)
    sees = plan.vision is not None and plan.vision.images_per_sequence != 0
    return sees and (not is_traced or has_own_model_code(plan))


def _says_images(plan: LaunchPlan) -> bool:
    """Tell whether somebody said how many images a sequence has, which is all that it has beside text."""
    origin = plan.origins.get("vision")
    is_said = origin is not None and not origin.assumed
    return is_said and plan.vision is not None and plan.vision.images_per_sequence is not None
