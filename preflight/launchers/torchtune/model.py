"""The `model` of a torchtune config: which weights, which adapter on them, how the frozen base is stored.

Source: torchtune/models/*/_model_builders.py and _component_builders.py of torchtune 0.6.1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from preflight.launch import Adapter, BaseQuantization, Vision
from preflight.launchers.framework_keys import FrameworkKeys, NotModelled
from preflight.launchers.torchtune.config import COMPONENT
from preflight.launchers.torchtune.table import builders
from preflight.near_names import nearest_fix
from preflight.setting import Setting
from preflight.unpriced_names import ON_EXPERTS

DEFAULT_RANK, DEFAULT_ALPHA = 8, 16
"""lora_rank and lora_alpha of every lora_ builder (models/llama3_1/_model_builders.py:88, 0.6.1)."""
ATTENTION = {"output_proj": "o_proj"}
MLP = ("gate_proj", "down_proj", "up_proj")
"""w1, w2 and w3 of torchtune's FeedForward."""
MLP_OF_TOWER = ("fc1", "fc2")
"""Its w1 and w2 in an encoder of images, which has no third (models/clip/_component_builders.py, 0.6.1)."""
FUSED = {
    "q_proj": "qkv_proj",
    "k_proj": "qkv_proj",
    "v_proj": "qkv_proj",
    "gate_proj": "gate_up_proj",
    "up_proj": "gate_up_proj",
}
"""Phi's layers are one in the registry's config and three in torchtune's models/phi3."""
TEXT_DATASETS = frozenset(
    f"torchtune.datasets.{name}_dataset"
    for name in (
        "alpaca", "alpaca_cleaned", "cnn_dailymail_articles", "grammar", "samsum", "slimorca", "stack_exchange_paired",
        "text_completion", "wikitext",
    )
)  # fmt: skip
"""Those that make a message of one string (datasets/_*.py, data/_messages.py, 0.6.1); those of chats may hold images."""
IN_MULTIMODAL = "torchtune.datasets.multimodal."
OF_ONE_IMAGE = frozenset(f"{IN_MULTIMODAL}{name}_dataset" for name in ("llava_instruct", "multimodal_chat", "vqa"))  # fmt: skip
"""Datasets that give a row one image, and no more (data/_messages.py InputOutputToMessages and ShareGPTToMessages, 0.4 to 0.7)."""
CAULDRON, OF_CAULDRON = f"{IN_MULTIMODAL}the_cauldron_dataset", "HuggingFaceM4/the_cauldron"
OF_ONE_IMAGE_EACH = frozenset(
    (
        "aokvqa", "chart2text", "clevr", "datikz", "diagram_image_to_text", "docvqa", "dvqa", "finqa", "hateful_memes",
        "hitab", "iam", "localized_narratives", "ocrvqa", "okvqa", "robut_sqa", "robut_wikisql", "robut_wtq", "scienceqa",
        "screen2words", "tat_qa", "textcaps", "textvqa", "vqarad", "vqav2", "websight",
    )
)  # fmt: skip
"""Subsets of The Cauldron made of one image a row (vision/data/datasets_processing_scripts of huggingface/smollm a041759:
build_ds_sft.py `example["images"] = [example["image"]]`, and merge_on_image_individual_dataset.py joins rows of one image)."""
TRANSFORM = ".llama3_2_vision_transform"
IMAGE_SIZE, PATCH, TILES = 560, 14, 4
"""Of its builders and its transform, which take no other number of tiles (models/llama3_2_vision/_model_builders.py, 0.6.1)."""
PARTS_OF_MODEL, TRAINS = ("decoder", "encoder", "fusion"), "_trainable"
"""Arguments of a builder of a model that sees: `decoder_trainable` and so on."""
PARTS: dict[tuple[bool, bool], tuple[bool | str, bool | str, bool | str]] = {
    (True, False): (False, True, True),
    (True, True): ("frozen", "lora", "lora"),
    (False, False): (True, False, True),
    (False, True): ("lora", "frozen", "lora"),
}
"""By whether layers attend to images and whether there are adapters, what of PARTS_OF_MODEL trains where nobody says
(models/llama3_2_vision/_model_builders.py in 0.6.1, models/llama4/_model_builders.py in 0.7.0)."""

Builder = Callable[[str], Mapping[str, Any] | None]
"""What is known of a model builder, by its name."""


def read_model(
    keys: FrameworkKeys, dtype: str | None, builder: Builder, section: str = "model"
) -> None:
    """Put model, adapter and base_quantization."""
    component = keys.get(f"{section}.{COMPONENT}")
    if component is None:
        where = keys.given.get(section)
        if where is not None:
            keys.refuse(
                f"{section} has no {COMPONENT}", where, "torchtune.models.llama3_1.llama3_1_8b"
            )
        return
    name = str(component.value)
    entry = builder(name)
    if entry is None:
        _unknown_builder(keys, name, component)
        return
    _check_arguments(keys, name, entry["arguments"], section)
    if entry.get("model") is None:
        keys.note(
            "PF143",
            f"{name} has the sizes of no model that preflight knows",
            component,
            "--set model_config=FILE, its config.json",
        )
    else:
        keys.put("model", entry["model"], component)
    short = name.rsplit(".", 1)[-1]
    if PARTS_OF_MODEL[0] + TRAINS in entry["arguments"]:
        _trained_parts(keys, section, short)
    if not short.startswith(("lora_", "qlora_")):
        return
    adapter = _adapter(
        keys, section, dtype, "phi" in short, PARTS_OF_MODEL[0] + TRAINS in entry["arguments"]
    )
    details = [
        s
        for part in ("lora_rank", "lora_attn_modules", "apply_lora_to_mlp", "use_dora")
        if (s := keys.get(f"{section}.{part}")) is not None
    ]
    keys.put("adapter", adapter, component, *details)
    quantize = keys.flag(f"{section}.quantize_base")
    if entry.get("quantizes") or (quantize is not None and quantize.value):
        scheme = BaseQuantization("nf4", True, dtype, None, "none")
        keys.put("base_quantization", scheme, quantize or component)


def _adapter(
    keys: FrameworkKeys, section: str, dtype: str | None, is_fused: bool, sees: bool
) -> Adapter:
    names: list[str] = []
    attention = keys.get(f"{section}.lora_attn_modules")
    if attention is None:
        keys.refuse(
            "a lora_ builder needs lora_attn_modules",
            keys.given[section],
            "lora_attn_modules: ['q_proj', 'v_proj', 'output_proj']",
        )
    elif isinstance(attention.value, list):
        names += [ATTENTION.get(str(item), str(item)) for item in attention.value]
    if keys.is_on(f"{section}.apply_lora_to_mlp"):
        names += (*MLP, *MLP_OF_TOWER) if sees else MLP
    if keys.is_on(f"{section}.apply_lora_to_output"):
        names.append("lm_head")
    if is_fused:
        names = [FUSED.get(item, item) for item in names]
    rank = keys.count(f"{section}.lora_rank")
    alpha = keys.value(f"{section}.lora_alpha", DEFAULT_ALPHA)
    dropout = keys.value(f"{section}.lora_dropout", 0.0)
    return Adapter(
        kind="dora" if keys.is_on(f"{section}.use_dora") else "lora",
        rank=DEFAULT_RANK if rank is None else rank.value,
        alpha=int(alpha) if _is_number(alpha) else None,
        dropout=float(dropout) if _is_number(dropout) else 0.0,
        targets=tuple(dict.fromkeys(names)) or None,
        # Adapters are made in the recipe's dtype (recipes/lora_finetune_distributed.py:495, 0.6.1).
        dtype=dtype,
    )


def trains_on_words(keys: FrameworkKeys) -> bool:
    """Tell whether the dataset makes rows of words alone, whatever is in them."""
    return str(keys.value("dataset._component_")) in TEXT_DATASETS


def _images(keys: FrameworkKeys, section: str, is_deep: bool) -> tuple[int | None, int | None]:
    """Return how many images a row has and how many tokens each becomes, both at most; None where only the data says."""
    if trains_on_words(keys):
        return 0, None
    dataset, own = str(keys.value(f"dataset.{COMPONENT}")), keys.value("dataset.source")
    is_cauldron = dataset == CAULDRON and own in (None, OF_CAULDRON) and keys.value("dataset.subset") in OF_ONE_IMAGE_EACH  # fmt: skip
    sizes = {keys.value(f"{of}.image_size", IMAGE_SIZE) for of in (section, "tokenizer")}
    is_own_transform = str(keys.value(f"tokenizer.{COMPONENT}")).endswith(TRANSFORM)
    if not is_deep or not is_own_transform or not (is_cauldron or dataset in OF_ONE_IMAGE):
        return None, None
    if not all(isinstance(size, int) and size > 0 for size in sizes):
        return None, None
    return 1, TILES * ((max(sizes) // PATCH) ** 2 + 1)


def _trained_parts(keys: FrameworkKeys, section: str, short: str) -> None:
    """Record which parts of a model that sees are left as they are.

    What fuses a decoder with its encoder is the projector, and in Llama 3.2 Vision the layers that attend to images
    (modules/model_fusion/_deep_fusion.py and _early_fusion.py, 0.6.1).
    """
    is_deep = "llama3_2_vision" in short
    defaults = PARTS[is_deep, short.startswith(("lora_", "qlora_"))]
    said = [keys.get(f"{section}.{part}{TRAINS}") for part in PARTS_OF_MODEL]
    trains = [
        default if setting is None else setting.value
        for setting, default in zip(said, defaults, strict=True)
    ]
    decoder, encoder, fusion = (value not in (False, "frozen") for value in trains)
    frozen = (
        *(() if encoder else ("tower",)),
        *(() if fusion else ("projector",)),
        *(() if decoder else ("language_model" if not (is_deep and fusion) else "decoder",)),
    )
    settings = [setting for setting in said if setting is not None]
    is_text = trains_on_words(keys)
    images, tokens = _images(keys, section, is_deep)
    vision = Vision(frozen=frozen, images_per_sequence=images, image_tokens=tokens)
    keys.decide("vision", vision, *settings, reason=f"the parts that {short} trains by itself")
    if "llama4" in short and "lora" in short and keys.is_on(f"{section}.apply_lora_to_mlp"):
        message = "adapters on each of the experts (modules/moe/experts.py LoRAGroupedExperts, 0.7.0) are not counted"
        on_mlp = keys.given[f"{section}.apply_lora_to_mlp"]
        keys.leave_out(NotModelled(message, ON_EXPERTS, "more"), on_mlp)
    mixed = [s for s in settings if s.value == "full" and short.startswith(("lora_", "qlora_"))]
    if is_deep and is_text and not decoder and short.startswith(("lora_", "qlora_")):
        dataset = keys.given[f"dataset.{COMPONENT}"]
        keys.refuse(
            "nothing that trains is run: rows of words alone pass over encoder and fusion layers, and the first backward"
            " finds nothing that asks for a gradient",
            dataset,
            'a dataset of torchtune.datasets.multimodal, or model.decoder_trainable: "lora"',
        )
    apart = is_deep and decoder and not fusion
    if mixed or apart:
        message = "parts that train whole beside adapters, or layers for images that stay as they are, are not counted so"
        keys.leave_out(
            NotModelled(message, "which parts of the model train", "either"), (mixed or settings)[0]
        )


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _unknown_builder(keys: FrameworkKeys, name: str, component: Setting) -> None:
    if not name.startswith("torchtune.models."):
        keys.note(
            "PF143",
            f"{name} is a model of your own: its sizes are not known",
            component,
            "--set model=ID, a model with the same sizes",
        )
        return
    near = nearest_fix(name, tuple(builders()))
    keys.note(
        "PF143",
        f"there is no {name} in {keys.library.label}: the model is not known",
        component,
        near or "--set model=ID",
    )


def _check_arguments(keys: FrameworkKeys, name: str, arguments: list[str], section: str) -> None:
    """Refuse an argument that the builder does not take: config.instantiate calls it with all of them."""
    prefix = f"{section}."
    for key, setting in keys.given.items():
        inner = key.removeprefix(prefix)
        if inner in (key, COMPONENT) or "." in inner or inner in arguments:
            continue
        keys.refuse(
            f"{name.rsplit('.', 1)[-1]} takes no {inner}",
            setting,
            nearest_fix(inner, tuple(arguments)) or f"drop {inner}",
        )
