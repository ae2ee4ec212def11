"""The optimizers of a low rank that LLaMA-Factory makes itself, use_galore and use_apollo, in plan fields.

Source: LLaMA-Factory 0.9.5, _create_galore_optimizer and _create_apollo_optimizer in train/trainer_utils.py and
hparams/finetuning_args.py.
"""

from __future__ import annotations

from preflight.launchers.framework_keys import FrameworkKeys
from preflight.launchers.low_rank import read_own_galore

MADE_OF = {
    "use_galore": {
        "adamw_torch": "galore_adamw",
        "adafactor": "galore_adafactor",
        **dict.fromkeys(("adamw_bnb_8bit", "adamw_8bit", "paged_adamw_8bit"), "galore_adamw_8bit"),
    },
    "use_apollo": {"adamw_torch": "apollo_adamw"},
}
"""Switch -> `optim` that it takes -> the Trainer's name of what it makes; every other `optim` stops the launch."""
RANK = "16"
"""Where nobody says it."""


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
    if asked is None:
        message = f"{name} takes no adamw_torch_fused, which Trainer's optimizer is by itself from torch 2.8 on"
        keys.refuse(message, setting, "optim: adamw_torch", severity="warning")
    made = made or f"{kind}_adamw"
    keys.put("optimizer", made, setting, *filter(None, (asked,)))
    read_own_galore(keys, made, setting, kind, {"rank": RANK})
    layerwise = keys.flag(f"{kind}_layerwise")
    if layerwise is not None and layerwise.value:
        keys.put("optimizer_in_backward", True, layerwise)
    return True
