"""A vision tower that a script builds into a language model itself, by the flags that name it.

Read in haotian-liu/LLaVA and LLaVA-VL/LLaVA-NeXT (`vision_tower`, `mm_projector_type`), NVlabs/VILA (`mm_projector`),
dvlab-research/MGM (`vision_tower_aux`), TinyLLaVA (`connector_type`) and OpenGVLab/InternVL (`vision_path`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from preflight.bool_words import STRTOBOOL
from preflight.errors import Problem
from preflight.launch import Adapter, Origin
from preflight.launch_facts import BuiltTower
from preflight.models.registry import entry_of
from preflight.plan_parts import LANGUAGE_MODEL, PROJECTOR, TOWER
from preflight.setting import Setting
from preflight.trainers.arguments import TrainerArguments
from preflight.trainers.frozen_parts import frozen_by_flags, unfreezes
from preflight.unpriced_names import adds_to_model

TOWERS = ("vision_tower", "mm_vision_tower", "vision_tower_aux", "vision_path")
PROJECTORS = ("mm_projector_type", "mm_projector", "connector_type")


CLIP, SIGLIP = "llava-hf/llava-1.5-7b-hf", "ibm-granite/granite-vision-3.2-2b"
SIZES: Mapping[str, tuple[str, int]] = {
    "clip-vit-large-patch14": (CLIP, 224),
    "clip-vit-large-patch14-336": (CLIP, 336),
    "siglip-so400m-patch14-384": (SIGLIP, 384),
}
"""Last part of a tower's name -> a model of the registry that has its layers, and the side of its images."""
ONE_TILE = ("", "none", "null", "pad", "square", "resize")
"""What `image_aspect_ratio` says where an image is one tile (llava/mm_utils.py process_images, LLaVA 1.2)."""
FLAT = ("", "none", "null", "flat")
LAYER = "mm_vision_select_layer"
PROJECTOR_MODULE = "multi_modal_projector"


def with_tower(trainer: TrainerArguments, classes: Collection[str]) -> TrainerArguments:
    """Return what was read of a script with the tower that these classes of its own build, where its sizes are known."""
    tower = built_tower(trainer) if classes else None
    if tower is None:
        return trainer
    trainer = trainer.without_uncounted([adds_to_model(name) for name in classes])
    facts, settings = replace(trainer.script, tower=tower), trainer.settings
    adapter = settings.get("adapter")
    if adapter is not None and adapter.value is not None:
        settings = {**settings, "adapter": replace(adapter, value=with_projector(adapter.value))}
    return replace(trainer, script=facts, settings=settings)


def counted_composites(
    trainer: TrainerArguments, composites: Mapping[str, tuple[str, ...]]
) -> dict[str, tuple[str, ...]]:
    """Return what classes of a script's own add to its model that are a tower, a language model and a projector, each with
    what the projector has; nothing where a part may train whole beside an adapter that is on another alone.

    `get_peft_model(self.language_model, config)` freezes the language model, and flags freeze the others or do not
    (wrap_llm_lora in internvl/model/internvl_chat/modeling_internvl_chat.py, 2.0).
    """
    own = {adds_to_model(cls): projector for cls, projector in composites.items()}
    own = {name: own[name] for name in own if name in trainer.script.uncounted}
    adapter, frozen = trainer.settings.get("adapter"), frozen_by_flags(trainer.raw)
    has_adapter = adapter is not None and adapter.value is not None
    may_have = "adapter" in trainer.script.unread and LANGUAGE_MODEL in frozen
    is_frozen = {TOWER, PROJECTOR} <= {*frozen} and not any(map(unfreezes, trainer.raw.items()))
    return {} if (has_adapter or may_have) and not is_frozen else own


def built_tower(trainer: TrainerArguments) -> BuiltTower | None:
    """Return the tower that a script builds as LLaVA's code does, where its sizes are known; None for any other.

    CLIP or SigLIP without a graph, and two linears with GELU between them (llava/model/multimodal_encoder/clip_encoder.py
    and multimodal_projector/builder.py): the parts of transformers' LlavaModel. What a packed base, frozen layers of the
    language model or several tiles make of it is not known.
    """
    arguments = trainer.raw
    named = [arguments[name] for name in TOWERS if _is_said(arguments.get(name))]
    projectors = {_word(arguments, name) for name in PROJECTORS} - {""}
    backbone = arguments.get("freeze_backbone")
    if len(named) != 1 or projectors != {"mlp2x_gelu"} or not _is_readable(trainer):
        return None
    if backbone is not None and STRTOBOOL.read(backbone.value) is not False:
        return None
    tiles, merged = _word(arguments, "image_aspect_ratio"), _word(arguments, "mm_patch_merge_type")
    sized = SIZES.get(str(named[0].value).rstrip("/").rpartition("/")[2])
    layer = _word(arguments, LAYER) or "-1"
    if sized is None or tiles not in ONE_TILE or merged not in FLAT or layer not in ("-1", "-2"):
        return None
    like = entry_of(sized[0])
    assert like is not None
    return BuiltTower(
        named[0], {**like.config["vision_config"], "image_size": sized[1]}, int(layer)
    )


def _is_readable(trainer: TrainerArguments) -> bool:
    """Tell whether nothing is packed, and what an adapter is, if there is one, is known but for where it goes."""
    adapter, packed = (trainer.settings.get(name) for name in ("adapter", "base_quantization"))
    is_packed = packed is not None and packed.value is not None
    has_adapter = adapter is not None and adapter.value is not None
    return not is_packed and (has_adapter or "adapter" not in trainer.script.unread)


def with_projector(adapter: Adapter) -> Adapter:
    """Return an adapter beside which the projector trains: the one that transformers' LlavaModel has under this name.

    It is made after the adapter, and its parameters are told to train "in case it is frozen by LoRA"
    (llava/model/llava_arch.py initialize_vision_modules, 1.2).
    """
    return replace(adapter, modules_to_save=(*(adapter.modules_to_save or ()), PROJECTOR_MODULE))


def beside_projector(origin: Origin) -> Origin:
    """Return the origin of an adapter beside which the projector trains, whatever the adapter may be."""
    may_be = (with_projector(one) if isinstance(one, Adapter) else one for one in origin.may_be)
    return replace(origin, may_be=tuple(may_be))


def _word(arguments: Mapping[str, Setting], name: str) -> str:
    setting = arguments.get(name)
    return "" if setting is None or setting.value is None else str(setting.value).lower()


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
    return Problem.left_out(
        f"the script builds {towers}{projector} into the language model itself: the estimate counts the language model",
        named[0].place.where,
        f"vision tower {towers}{projector}",
        "more",
        "a checkpoint in transformers' own format (`llava-hf/...`) is counted whole",
        "PF126",
    )


def _is_said(setting: Setting | None) -> bool:
    return setting is not None and str(setting.value).lower() not in ("", "none", "null")
