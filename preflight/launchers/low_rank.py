"""What optimizers of a low rank project, in plan fields, as frameworks' own keys say it."""

from __future__ import annotations

from collections.abc import Mapping

from preflight.formulas.low_rank_options import low_rank_of, targets_of
from preflight.formulas.optimizers import LOW_RANK
from preflight.launchers.framework_keys import FrameworkKeys
from preflight.setting import Setting

ALL_BUT_THE_HEAD = (
    r"(?!.*(?:lm_head|output_layer|multi_modal_projector|score|v_head|classifier))(?!.*\boutput$).+"
)
"""What `all` names in LLaMA-Factory, and ms-swift where nothing is said: linear layers but a model's output, and a
projector's (find_all_linear_modules of model/model_utils/misc.py, 0.9.5; find_all_linears of utils/transformers_utils.py,
4.6.0)."""


def read_low_rank(keys: FrameworkKeys, optimizer: str, by: Setting) -> None:
    """Record what Trainer's own optimizer projects: its arguments stand among the keys, by their names."""
    if not optimizer.startswith(LOW_RANK):
        return
    for name in ("optim_args", "optim_target_modules"):
        given = keys.given.get(name)
        if given is not None:
            keys.argument(name, given.value, given)
    options, targets = keys.get("optim_args"), keys.get("optim_target_modules")
    named = None if targets is None else targets_of(targets.value)
    low_rank = low_rank_of(optimizer, None if options is None else options.value, named)
    if low_rank is not None:
        keys.put("low_rank", low_rank, *filter(None, (targets, options)))
    if optimizer.endswith("_layerwise"):
        keys.put("optimizer_in_backward", True, by)


def read_own_galore(
    keys: FrameworkKeys, optimizer: str, by: Setting, kind: str, defaults: Mapping[str, str]
) -> None:
    """Record what an optimizer projects that a framework makes itself, with keys such as `galore_rank`."""
    given = {name: keys.get(f"{kind}_{name}") for name in ("rank", "proj_type", "proj")}
    options = {name: str(said.value) for name, said in given.items() if said is not None}
    named = keys.get(f"{kind}_target", f"{kind}_target_modules")
    said = None if named is None else named.value
    words = said.split(",") if isinstance(said, str) else said
    targets = tuple(str(word).strip() for word in words or ("all",) if str(word).strip())
    low_rank = low_rank_of(
        optimizer,
        {**defaults, **options},
        ALL_BUT_THE_HEAD if targets in (("all",), ("all-linear",)) else targets,
    )
    if low_rank is not None:
        details = [each for each in (named, *given.values()) if each is not None]
        keys.put("low_rank", low_rank, by, *details)
