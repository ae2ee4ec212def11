"""The optimizers of a low rank that LLaMA-Factory makes itself, use_galore and use_apollo, in plan fields.

Source: LLaMA-Factory 0.9.5, _create_galore_optimizer and _create_apollo_optimizer in train/trainer_utils.py,
find_all_linear_modules in model/model_utils/misc.py, hparams/finetuning_args.py.
"""

from __future__ import annotations

from preflight.formulas.low_rank_options import low_rank_of
from preflight.launchers.framework_keys import FrameworkKeys
from preflight.setting import Setting

MADE_OF = {
    "use_galore": {
        "adamw_torch": "galore_adamw",
        "adafactor": "galore_adafactor",
        **dict.fromkeys(("adamw_bnb_8bit", "adamw_8bit", "paged_adamw_8bit"), "galore_adamw_8bit"),
    },
    "use_apollo": {"adamw_torch": "apollo_adamw"},
}
"""Switch -> `optim` that it takes -> the Trainer's name of what it makes; every other `optim` stops the launch."""
RANK = 16
"""Where nobody says it."""
ALL_BUT_THE_HEAD = r"(?!.*(?:lm_head|output_layer|multi_modal_projector))(?!.*\boutput$).+"
"""What `all` names: linear layers but a model's output, and a projector's."""
OPTIONS = {"rank": "rank", "proj_type": "proj_type", "proj": "proj"}
"""Option of a projector -> what its key is called behind `galore_` or `apollo_`."""


def reads_low_rank(keys: FrameworkKeys) -> bool:
    """Record the optimizer that use_galore or use_apollo makes and what it projects; tell whether one of them is on."""
    name = next((name for name in MADE_OF if keys.is_on(name)), None)
    setting = None if name is None else keys.get(name)
    if name is None or setting is None:
        return False
    asked, kind = keys.get("optim"), name.removeprefix("use_")
    made = MADE_OF[name].get("adamw_torch" if asked is None else str(asked.value))
    if made is None and asked is not None:
        wanted = ", ".join(MADE_OF[name])
        keys.refuse(f"{name} takes {wanted}, not optim {asked.value}", asked, "optim: adamw_torch")
    made = made or f"{kind}_adamw"
    keys.put("optimizer", made, setting, *filter(None, (asked,)))
    given = {option: keys.get(f"{kind}_{key}") for option, key in OPTIONS.items()}
    options = {option: str(said.value) for option, said in given.items() if said is not None}
    targets = _targets(keys.get(f"{kind}_target"))
    low_rank = low_rank_of(made, {"rank": str(RANK), **options}, targets)
    said = [each for each in (*given.values(), keys.get(f"{kind}_target")) if each is not None]
    if low_rank is not None:
        keys.put("low_rank", low_rank, setting, *said)
    layerwise = keys.flag(f"{kind}_layerwise")
    if layerwise is not None and layerwise.value:
        keys.put("optimizer_in_backward", True, layerwise)
    return True


def _targets(setting: Setting | None) -> tuple[str, ...] | str:
    said = "all" if setting is None else setting.value
    names = said if isinstance(said, list) else str(said).split(",")
    found = tuple(str(name).strip() for name in names if str(name).strip())
    return ALL_BUT_THE_HEAD if found == ("all",) else found
