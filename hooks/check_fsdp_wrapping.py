"""PF202, PF206, PF211, PF224: units that do not fit the model.

PF202  SIZE_BASED_WRAP with a threshold above the largest layer: FSDP1 wraps no layer by itself
PF206  a class that the model does not have: "Could not find the transformer layer class X in the model."
       (accelerate/utils/fsdp_utils.py:953 and utils/dataclasses.py, 1.15.0)
PF211  SIZE_BASED_WRAP under FSDP2: the list of layers is above the threshold too, and fully_shard refuses a
       container that has no forward (torch/distributed/fsdp/_fully_shard/_fsdp_init.py:45, 2.13)
PF224  words that encoder and decoder share in modules of their own, under FSDP2: accelerate divides the one that
       get_input_embeddings() gives, the root has the others, and torch refuses a parameter in two groups

PF206 names only what cannot be there: the layer class of another architecture, or one of this
architecture in other letters. Any module may be wrapped, and not every class is known here.
"""

from __future__ import annotations

from collections.abc import Iterable

from preflight.finding import Finding
from preflight.findings import found
from preflight.formulas.trainer_arguments import where_of
from preflight.hookspecs import hookimpl
from preflight.launch import LaunchPlan
from preflight.model import ModelSpec
from preflight.models.families.library_defaults import library_defaults
from preflight.plan_choices import HF_TRAINERS
from preflight.versions import transformers
from preflight.versions.accelerate import WRAPS_BOTH_ENDS
from preflight.versions.torch import REFUSES_TWO_GROUPS

COMPOSITES = ("text_config", "vision_config", "audio_config")
"""Parts of a config whose model has layers that no list names."""

SHARES_WORDS = {
    "t5": transformers.GIVES_STACKS_THEIR_WORDS,
    "mt5": transformers.GIVES_STACKS_THEIR_WORDS,
    "umt5": transformers.GIVES_STACKS_THEIR_WORDS,
    "pegasus": transformers.GIVES_STACKS_THEIR_WORDS,
    "bart": transformers.SCALES_WORDS_OF_STACKS,
    "mbart": transformers.SCALES_WORDS_OF_STACKS,
}
"""Types whose encoder and decoder have one table of words, and since when in modules of their own."""


@hookimpl
def preflight_findings(plan: LaunchPlan, model: ModelSpec | None) -> Iterable[Finding]:
    """Hold the wrap policy against the layers of the model."""
    if model is None or not plan.is_fsdp:
        return
    if plan.wrap_policy == "transformer" and plan.wrap_classes and model.layer_classes:
        yield from _absent_classes(plan, model, plan.wrap_classes)
    if plan.wrap_policy == "size" and plan.wrap_min_num_params and model.layers:
        yield from _by_size(plan, model, plan.wrap_min_num_params)
    if plan.engine == "fsdp2" and plan.trainer in (*HF_TRAINERS, "plain_loop"):
        yield from _shared_words(plan, model)


def _absent_classes(
    plan: LaunchPlan, model: ModelSpec, named: tuple[str, ...]
) -> Iterable[Finding]:
    own = {name.lower(): name for name in model.layer_classes}
    others: set[str] = set()
    if not any(key in model.config for key in COMPOSITES):
        others = {name for names in library_defaults().layer_classes.values() for name in names}
    for name in named:
        is_misspelt = name.lower() in own and name not in model.layer_classes
        if name in model.layer_classes or not (is_misspelt or name in others):
            continue
        right = own.get(name.lower()) or ",".join(
            n for n in model.layer_classes if n.endswith(("Layer", "Block"))
        )
        yield found(
            "PF206",
            f"{model.model_type} has no {name}: every worker stops when FSDP wraps the model",
            where_of(plan, "wrap_classes"),
            f"{right or model.layer_classes[0]}, or no class: the model's own is then taken",
            {"wrap_classes": None},
        )


def _by_size(plan: LaunchPlan, model: ModelSpec, least: int) -> Iterable[Finding]:
    largest = max(unit.num_params for unit in model.layers)
    together = sum(unit.num_params * unit.count for unit in model.layers)
    if plan.engine == "fsdp2" and together > least:
        yield found(
            "PF211",
            "SIZE_BASED_WRAP under FSDP2 takes the list of the layers for a module to wrap, and torch refuses it",
            where_of(plan, "wrap_policy"),
            "fsdp_auto_wrap_policy: TRANSFORMER_BASED_WRAP",
            {"wrap_policy": "transformer"},
        )
    elif plan.engine == "fsdp1" and least > largest:
        yield found(
            "PF202",
            f"a layer has {largest:,} parameters and fsdp_min_num_params is {least:,}: no layer is a unit by itself",
            where_of(plan, "wrap_min_num_params"),
            "fsdp_auto_wrap_policy: TRANSFORMER_BASED_WRAP",
            {"wrap_policy": "transformer"},
        )


def _shared_words(plan: LaunchPlan, model: ModelSpec) -> Iterable[Finding]:
    shares = SHARES_WORDS.get(model.model_type)
    boundaries = (shares, WRAPS_BOTH_ENDS, REFUSES_TWO_GROUPS)
    if all(each is not None and each.holds_in(plan.versions) for each in boundaries):
        yield found(
            "PF224",
            f"encoder and decoder of {model.model_type} share their words, which accelerate's FSDP2 puts into two groups:"
            " every worker stops at its first forward",
            where_of(plan, "engine"),
            "fsdp_version: 1",
            {"engine": "fsdp1"},
        )
