"""What ms-swift refuses beside the arguments of one field.

Source: __post_init__ and _check_* in arguments/{sft,rlhf}_args.py and arguments/base_args/*.py of ms-swift 4.6.0.
"""

from __future__ import annotations

from collections.abc import Collection

from preflight.launchers.framework_keys import FrameworkKeys, NotModelled
from preflight.launchers.swift.table import arguments_of, newest, releases_of
from preflight.near_names import nearest_fix
from preflight.versions.boundary import release


def check_unknown(keys: FrameworkKeys, name: str, unknown: Collection[str]) -> None:
    """Refuse what no release takes and what looks like a slip; what a newer one may have is said."""
    known = arguments_of(name).arguments
    is_allowed = keys.is_on("ignore_args_error")
    for each, setting in keys.given.items():
        if each not in unknown:
            _of_another_release(keys, name, each)
            continue
        near = nearest_fix(each, tuple(known))
        message = f"swift {name} has no argument {each!r} in ms-swift {newest()} and before"
        is_newer = keys.library.is_known and release(keys.library.version) > release(newest())
        if is_allowed:
            keys.note("PF140", f"{message}: it is ignored", setting, near)
        elif near or (keys.library.is_known and not is_newer):
            keys.refuse(message, setting, near, key=each)
        else:
            left_out = f"an argument named {each}"
            keys.leave_out(NotModelled(message, left_out, "either"), setting)


def _of_another_release(keys: FrameworkKeys, name: str, each: str) -> None:
    """Refuse an argument that the release which the launch is known to have does not take."""
    span = releases_of(name, each)
    if span is None or not keys.library.is_known:
        return
    version, (first, last) = release(keys.library.version), span
    if version < release(first) or (version > release(last) and last != newest()):
        message = (
            f"{each} is an argument of ms-swift {first} to {last}, not of {keys.library.version}"
        )
        keys.refuse(message, keys.given[each])


def check_swift(keys: FrameworkKeys, name: str) -> None:
    """Say what the parser refuses."""
    at = next(iter(keys.given.values()))
    if "model" not in keys.given and "resume_from_checkpoint" not in keys.given:
        keys.refuse("model is missing", at, "--model MODEL")
    if keys.get("dataset", "cached_dataset", "val_dataset") is None:
        keys.refuse("dataset is missing", at, "--dataset DATASET")
    _packing(keys, name)


def _packing(keys: FrameworkKeys, name: str) -> None:
    """Refuse rows without padding where attention cannot keep them apart (_check_padding_free)."""
    is_packed = keys.is_on("packing")
    feature = "packing" if is_packed else "padding_free"
    if not is_packed and not keys.is_on("padding_free"):
        return
    setting = keys.get(feature)
    assert setting is not None
    attention = str(keys.value("attn_impl", ""))
    if "flash" not in attention and not keys.library.is_before(PACKS_WITH_FLASH):
        keys.refuse(f"{feature} needs flash attention", setting, "--attn_impl flash_attn")
    kind = keys.value("rlhf_type", "dpo")
    if name == "rlhf" and kind not in ("grpo", "dpo", "kto", "gkd"):
        keys.refuse(f"{feature} does not work with rlhf_type {kind}", setting, f"no {feature}")
    if is_packed and keys.is_on("lazy_tokenize"):
        lazy = keys.given["lazy_tokenize"]
        keys.refuse("packing does not work with lazy_tokenize", lazy, "--lazy_tokenize false")


PACKS_WITH_FLASH = "3.11"
"""Release in which packing and padding_free were seen to be refused without flash attention
(llm/argument/train_args.py _check_padding_free)."""
