"""A vision tower that a script builds into a language model itself, by the flags that name it.

Read in haotian-liu/LLaVA and LLaVA-VL/LLaVA-NeXT (`vision_tower`, `mm_projector_type`), NVlabs/VILA (`mm_projector`),
dvlab-research/MGM (`vision_tower_aux`), TinyLLaVA (`connector_type`) and OpenGVLab/InternVL (`vision_path`).
"""

from __future__ import annotations

from collections.abc import Mapping

from preflight.errors import Problem
from preflight.setting import Setting

TOWERS = ("vision_tower", "mm_vision_tower", "vision_tower_aux", "vision_path")
PROJECTORS = ("mm_projector_type", "mm_projector", "connector_type")


def own_tower(arguments: Mapping[str, Setting]) -> Problem | None:
    """Return that a launch's tower and projector are not priced, by their names; None where no flag names a tower."""
    named = [arguments[name] for name in TOWERS if _is_said(arguments.get(name))]
    if not named:
        return None
    towers = " and ".join(str(setting.value) for setting in named)
    projector = next(
        (f", projector {arguments[name].value}" for name in PROJECTORS if _is_said(arguments.get(name))),
        "",
    )  # fmt: skip
    return Problem(
        f"the script builds {towers}{projector} into the language model itself: the estimate counts the language model",
        named[0].place.where,
        "a checkpoint in transformers' own format (`llava-hf/...`) is counted whole",
        "PF126",
        "warning",
        unpriced=f"vision tower {towers}{projector}",
        takes="more",
    )


def _is_said(setting: Setting | None) -> bool:
    return setting is not None and str(setting.value).lower() not in ("", "none", "null")
