"""Whether the trainer of a launch takes an argument, in the releases that the launch may have."""

from __future__ import annotations

from preflight.launch import LaunchPlan
from preflight.scripts.arguments.trainer_tables import argument_table, has_table
from preflight.versions.spans import home_of


def lacked_by(plan: LaunchPlan, argument: str, is_likely: bool = False) -> str:
    """Return in which release the launch's trainer takes no such argument: `trl 0.9.6`; empty where it always does.

    Every release is looked at that the launch may have, or with `is_likely` the one that is taken for it.
    """
    method = plan.trainer_facts.method if plan.trainer == "trl" else None
    home = home_of(argument, method)
    if home is None:
        is_known = method is not None and has_table(method)
        is_taken = not is_known or argument in argument_table(method).arguments
        return "" if is_taken else f"TRL's {method} trainer"
    library, span = home
    others = () if is_likely else (other.versions for other in plan.version_readings)
    found = (versions[library] for versions in (plan.versions, *others) if library in versions)
    return next((f"{library} {version}" for version in found if not span.holds_in(version)), "")
