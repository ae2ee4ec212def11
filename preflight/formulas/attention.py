"""Which attention a model runs where nobody asked for one: transformers takes SDPA, and eager where a class has none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from preflight.formulas.precision import OWN_MODEL_CODE, version_of
from preflight.launch import LaunchPlan, Origin
from preflight.model import ModelSpec

EAGER_VERSIONS: Mapping[str, tuple[tuple[int, ...], tuple[int, ...] | None]] = {
    "bloom": ((0,), None),
    "gemma2": ((5, 21), None),
    "gpt_oss": ((0,), None),
    "gptj": ((0,), (5, 24)),
    "opt": ((0,), (4, 46)),
    "phi3": ((0,), (4, 45)),
}
"""Decoder -> the first transformers whose class has no SDPA, and the first that has it again, None for none yet.

Read in modeling_*.py of the releases 4.44.2 to 5.24.0. `get_correct_attn_implementation` (modeling_utils.py,
5.24.0) takes eager there: ALiBi, sinks and capped scores are not in torch's kernel.
"""


def default_attention(model_type: str, version: tuple[int, ...]) -> str:
    """Return what transformers of a version runs when nobody names an attention."""
    if model_type not in EAGER_VERSIONS:
        return "sdpa"
    first, until = EAGER_VERSIONS[model_type]
    is_eager = first <= version and (until is None or version < until)
    return "eager" if is_eager else "sdpa"


def with_default_attention(plan: LaunchPlan, model: ModelSpec) -> LaunchPlan:
    """Return the plan with eager attention where the model's class has nothing else and nobody asked for more."""
    origin = plan.origins.get("attention")
    is_given = plan.attention is not None and (origin is None or not origin.assumed)
    if is_given or plan.trainer in OWN_MODEL_CODE or model.model_type not in EAGER_VERSIONS:
        return plan
    if default_attention(model.model_type, version_of(plan, "transformers")) == "sdpa":
        return plan
    version = plan.versions.get("transformers")
    library = "transformers" + (f" {version}" if version else "")
    reason = f"{model.model_type} has no SDPA there, and nobody names another attention"
    settled = Origin(f"{OF_CLASS}{library}", True, reason)
    return replace(plan, attention="eager", origins={**plan.origins, "attention": settled})


OF_CLASS = "default of the model's class in "


def is_of_class(origin: Origin) -> bool:
    """Tell whether a value was settled here, so that no launch says it."""
    return origin.where.startswith(OF_CLASS)
