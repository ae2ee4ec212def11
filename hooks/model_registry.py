"""Models of the shipped registry, by their own and other names, and the error for one that nobody knows; asked last."""

from __future__ import annotations

from dataclasses import replace

from preflight.hookspecs import hookimpl
from preflight.launch import LaunchPlan
from preflight.model import Likeness, ModelSpec
from preflight.models import describe
from preflight.models.folder import is_path
from preflight.models.not_known import not_known
from preflight.models.registry import EVIDENCE, GUESSES, entry_of, find
from preflight.models.variants import config_of, stored_dtypes


@hookimpl
def preflight_describe_model(plan: LaunchPlan) -> ModelSpec | None:
    """Describe a model by its hub id, a folder that is not here by its name; refuse one that is not known anywhere."""
    if plan.model is None:
        return None
    entry, other = (None, None) if is_path(plan.model) else find(plan.model)
    if entry is None:
        from preflight.models.trained_here import named_elsewhere  # most models are listed

        other = named_elsewhere(plan.model, plan.cwd)
        entry = None if other is None else entry_of(other.model)
    if entry is None:
        origin = plan.origins.get("model")
        where = origin.where if origin else ""
        raise not_known(f"not known here: model {plan.model}", plan.model, where)
    source, like = "the registry", None
    if other is not None:
        like = Likeness(entry.id, EVIDENCE[other.evidence], other.evidence in GUESSES)
        source = f"the registry, as {entry.id}: {like.evidence}"
    spec = describe(config_of(entry, other), plan.model, source, entry.num_params)
    return replace(spec, like=like, stored_dtypes=stored_dtypes(spec, other))
