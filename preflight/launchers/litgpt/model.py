"""The model of a litgpt launch: which checkpoint, what LoRA puts on it, how a frozen base is packed.

Source: finetune/lora.py, lora.py and utils.py (extend_checkpoint_dir) of litgpt 0.5.13.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from preflight.errors import BadInput
from preflight.formats.load import read_document
from preflight.launch import Adapter, BaseQuantization, LaunchCommand
from preflight.launchers.framework_keys import FrameworkKeys
from preflight.launchers.litgpt.table import block_size_of, model_named
from preflight.launchers.litgpt.words import LitgptWords
from preflight.setting import Setting

CHECKPOINTS = "checkpoints"
"""Where `litgpt download` puts models: checkpoints/ORG/NAME."""
CONFIG = "model_config.yaml"
FUSED = ("query_key_value", "qkv_proj")
"""One layer in Hugging Face's models of some types; litgpt adapts the parts that are asked for, and here all count."""
TARGETS = {
    "lora_query": ("q_proj", *FUSED),
    "lora_key": ("k_proj", *FUSED),
    "lora_value": ("v_proj", *FUSED),
    "lora_projection": ("o_proj", "dense"),
    "lora_mlp": (
        *("gate_proj", "up_proj", "down_proj", "gate_up_proj"),
        *("dense_h_to_4h", "dense_4h_to_h", "fc1", "fc2"),
    ),
    "lora_head": ("lm_head", "embed_out"),
}
"""Switch -> the linear layers that it adapts, by the names that they have in Hugging Face's models."""
SCHEMES = {
    "bnb.nf4": ("nf4", False),
    "bnb.nf4-dq": ("nf4", True),
    "bnb.fp4": ("fp4", False),
    "bnb.fp4-dq": ("fp4", True),
    "bnb.int8-training": ("int8", False),
}


def read_model(command: LaunchCommand, keys: FrameworkKeys, option: str) -> None:
    """Put the model that a checkpoint's folder or one of litgpt's own names stands for."""
    setting = keys.get(option)
    if setting is None:
        return
    if keys.get("model_config") is not None:
        keys.note(
            "PF143",
            "model_config gives sizes of its own, which preflight does not read",
            keys.given["model_config"],
            "--set model_config=FILE, a config.json with its sizes",
        )
        return
    text = str(setting.value).rstrip("/")
    if option == "model_name":
        model = text if "/" in text else model_named(text)
        if model is None:
            keys.refuse(
                f"{keys.library.label} has no model {text}", setting, "litgpt pretrain list"
            )
            return
    else:
        model = _of_checkpoint(command, text)
    keys.put("model", model, setting)


def block_size(command: LaunchCommand, keys: FrameworkKeys, option: str) -> int | None:
    """Return the tokens of the longest row that the model takes: as a converted checkpoint says, else litgpt's own."""
    setting, model = keys.get(option), keys.settings.get("model")
    if setting is None or model is None:
        return None
    own = {} if option == "model_name" else _config_of(command, str(setting.value).rstrip("/"))
    said = own.get("block_size")
    return said if isinstance(said, int) else block_size_of(str(model.value))


def _of_checkpoint(command: LaunchCommand, folder: str) -> str:
    """Return the id on the Hub of a converted checkpoint: as its config says, else by the folder's name."""
    source = _config_of(command, folder).get("hf_config")
    if isinstance(source, Mapping) and "org" in source and "name" in source:
        return f"{source['org']}/{source['name']}"
    parts = folder.split("/")
    if CHECKPOINTS in parts:
        parts = parts[parts.index(CHECKPOINTS) + 1 :]
    return "/".join(parts) if len(parts) == 2 else folder


def _config_of(command: LaunchCommand, folder: str) -> Mapping[str, Any]:
    """Return what a converted checkpoint says of itself; empty where it is not here, or cannot be read."""
    for path in (f"{folder}/{CONFIG}", f"{CHECKPOINTS}/{folder}/{CONFIG}"):
        if command.exists(path):
            try:
                value = read_document(command, path, "yaml").value
            except BadInput:
                return {}
            return value if isinstance(value, Mapping) else {}
    return {}


def adapter_of(
    keys: FrameworkKeys, words: LitgptWords, dtype: str
) -> tuple[Adapter, tuple[Setting, ...]]:
    """Return the LoRA adapter and the settings that say how it is; adapters have the dtype of the weights."""
    given: list[Setting] = []

    def switch(option: str) -> bool:
        setting = keys.flag(option)
        if setting is None:
            return bool(words.default(option))
        given.append(setting)
        return bool(setting.value)

    names = [name for option, layers in TARGETS.items() if switch(option) for name in layers]
    rank, alpha, dropout = keys.count("lora_r"), keys.count("lora_alpha"), keys.get("lora_dropout")
    if dropout is not None and (
        isinstance(dropout.value, bool) or not isinstance(dropout.value, (int, float))
    ):
        keys.refuse(f"lora_dropout must be a number, not {dropout.value!r}", dropout)
        dropout = None
    given[:0] = [setting for setting in (rank, alpha, dropout) if setting is not None]
    adapter = Adapter(
        rank=words.default("lora_r") if rank is None else rank.value,
        alpha=words.default("lora_alpha") if alpha is None else alpha.value,
        dropout=float(words.default("lora_dropout") if dropout is None else dropout.value),
        targets=tuple(dict.fromkeys(names)),
        dtype=dtype,
    )
    return adapter, tuple(given)


def base_quantization_of(name: str, dtype: str) -> BaseQuantization | None:
    """Return what `--quantize NAME` packs the base in; None for a name that litgpt does not have."""
    if name not in SCHEMES:
        return None
    scheme, is_double = SCHEMES[name]
    return BaseQuantization(scheme, is_double, dtype, None, "none")
