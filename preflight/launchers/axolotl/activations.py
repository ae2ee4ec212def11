"""axolotl's keys of recomputed and offloaded activations, attention and loss as plan fields.

Source: axolotl 0.19.0, _configure_gradient_checkpointing in core/builders/base.py, check_gradient_checkpointing_w_offload
in utils/schemas/validation.py, normalize_attn_implementation in utils/schemas/config.py, and the liger and
cut_cross_entropy integrations.
"""

from __future__ import annotations

from collections.abc import Mapping

from preflight.formulas.layers.kernels import LIGER_KERNELS
from preflight.launchers.axolotl.keys import listed_plugins
from preflight.launchers.framework_keys import FrameworkKeys, NotModelled
from preflight.scripts.arguments.trainer_spellings import attention_of
from preflight.setting import Setting

ATTENTION_FLAGS = {
    # LEGACY_ATTN_FLAG_TO_IMPL of utils/schemas/enums.py, the first one that is on wins
    "xformers_attention": "xformers",
    "sage_attention": "sage",
    "flex_attention": "flex_attention",
    "flash_attention": "flash_attention_2",
    "sdp_attention": "sdpa",
    "eager_attention": "eager",
}
FULL_NAMES = {"flash": "flash_attention_2", "flex": "flex_attention", "sdp": "sdpa"}
"""SHORT_FORM_ALIAS_TO_CANONICAL of utils/schemas/enums.py: refused."""
IMPLEMENTATIONS = (
    "eager", "sdpa", "flash_attention_2", "flash_attention_3", "flash_attention_4", "flash_attention_torch",
    "flex_attention", "xformers", "sage", "fp8",
)  # fmt: skip
"""CANONICAL_ATTN_IMPLS of utils/schemas/enums.py; a kernel of the hub has a slash in its name."""
OFFLOADING_WORDS = {"offload": True, "offload_disk": "disk"}
"""Old words of gradient_checkpointing -> activation_offloading."""
LOSSES = {
    "liger_fused_linear_cross_entropy": ("liger", "fused_linear"),
    "liger_cross_entropy": ("liger", "fused_ce"),
    "cut_cross_entropy": ("cut_cross_entropy", "fused_linear"),
    "chunked_cross_entropy": ("", "chunked_ce"),
}
"""Key -> the integration that must be listed in plugins, and the plan's word."""


def read_checkpointing(keys: FrameworkKeys) -> None:
    """Record what is recomputed and what waits in host memory."""
    setting, offload = keys.get("gradient_checkpointing"), keys.get("activation_offloading")
    is_on, mode = False, offload.value if offload is not None else False
    if setting is not None and str(setting.value) in OFFLOADING_WORDS:
        word = str(setting.value)
        is_on, mode, offload = True, OFFLOADING_WORDS[word], setting
        keys.note(
            "PF144",
            f"gradient_checkpointing: {word} is an old spelling",
            setting,
            f"gradient_checkpointing: true and activation_offloading: {str(mode).lower()}",
            "info",
        )
    elif setting is not None and setting.value == "unsloth":
        keys.refuse(
            "gradient_checkpointing: unsloth is gone", setting, "gradient_checkpointing: offload"
        )
    elif setting is not None:
        is_on = keys.is_on("gradient_checkpointing")
    if mode and not is_on and offload is not None and not keys.is_unknown("gradient_checkpointing"):
        keys.refuse(
            "activation_offloading requires gradient_checkpointing",
            offload,
            "gradient_checkpointing: true",
        )
    # TRL's offloading takes recomputation's place under an adapter.
    replaced = bool(mode) and mode != "hidden_states" and keys.get("adapter") is not None
    plan_mode = "full" if is_on and not replaced else "none"
    selective = keys.get("selective_checkpointing")
    if plan_mode == "full" and selective is not None and selective.value:
        plan_mode = "selective_op"
        if isinstance(selective.value, dict):
            message = "selective checkpointing is estimated as torch's usual choice of operations"
            words = "operations that checkpointing saves"
            keys.leave_out(NotModelled(message, words, "either"), selective)
    if setting is not None:
        keys.put("activation_checkpointing", plan_mode, setting)
    elif not keys.is_unknown("gradient_checkpointing"):
        keys.assume("activation_checkpointing", "none", "no gradient_checkpointing")
    keys.argument("gradient_checkpointing", plan_mode != "none" and not mode, setting)
    if mode and offload is not None:
        keys.put("offload_activations", "cpu", offload)
        if mode == "disk":
            message = "activations on disk are estimated as if they were in host memory"
            keys.note("PF143", message, offload)
    if plan_mode != "none":
        _reentrant(keys, (bool(mode) and mode != "hidden_states") or plan_mode == "selective_op")


def asks_for_reentrant(keys: FrameworkKeys) -> bool:
    """Tell whether the kind of checkpointing is asked for that runs a backward of its own."""
    options = keys.value("gradient_checkpointing_kwargs")
    return isinstance(options, Mapping) and options.get("use_reentrant") is True


def _reentrant(keys: FrameworkKeys, wraps_itself: bool) -> None:
    """Record the kind of checkpointing: reentrant wherever normalize_config fills the keywords in.

    It does so for a model that no key freezes in part, and without rl (utils/config/__init__.py:376, 0.18.0; :395, 0.19.0);
    an offloading or a selection wraps the layers in checkpoints of its own, which are not (`wraps_itself`). Keywords that do
    not name the kind leave it to torch, which takes the reentrant one.
    """
    given, frozen, rl = map(
        keys.get, ("gradient_checkpointing_kwargs", "unfrozen_parameters", "rl")
    )
    if given is not None and isinstance(given.value, Mapping):
        named = "use_reentrant" in given.value
        keys.put("checkpointing_reentrant", asks_for_reentrant(keys) or not named, given)
    elif wraps_itself or frozen is not None or rl is not None:
        keys.assume("checkpointing_reentrant", False, "no gradient_checkpointing_kwargs")
    else:
        keys.assume("checkpointing_reentrant", True, "no gradient_checkpointing_kwargs")


def read_attention(keys: FrameworkKeys) -> str | None:
    """Record the attention; return axolotl's name of it."""
    setting, name = _chosen(keys)
    if setting is None or name is None:
        if not keys.is_unknown("attn_implementation"):
            keys.assume("attention", "sdpa", "no attn_implementation: that of transformers")
        return None
    base = name.split("@")[0].split(":")[0]
    if name in FULL_NAMES:
        fix = f"attn_implementation: {FULL_NAMES[name]}"
        keys.refuse(f"attn_implementation {name!r} is not a full name", setting, fix)
        return name
    if base not in IMPLEMENTATIONS and "/" not in base:
        wanted = ", ".join(IMPLEMENTATIONS)
        keys.refuse(f"attn_implementation must be one of {wanted}, not {name!r}", setting)
        return name
    word = attention_of(name)
    if word is None:
        word = "sdpa" if base == "fp8" else "flash_attention_2"
        keys.note("PF143", f"{name} is estimated as {word}", setting)
    keys.put("attention", word, setting)
    return base


def _chosen(keys: FrameworkKeys) -> tuple[Setting | None, str | None]:
    setting = keys.get("attn_implementation")
    flags = {flag: given for flag in ATTENTION_FLAGS if (given := keys.flag(flag)) and given.value}
    if setting is not None:
        if flags:
            flag = next(iter(flags))
            keys.refuse(
                f"attn_implementation and {flag} are both given", flags[flag], f"remove {flag}"
            )
        return setting, str(setting.value)
    for flag, given in flags.items():
        return given, ATTENTION_FLAGS[flag]
    return None, None


KERNELS = {
    "liger_rms_norm": "liger_rms_norm",
    "liger_rope": "liger_rope",
    "liger_glu_activation": "liger_swiglu",
    "liger_swiglu": "liger_swiglu",
}
"""Key of the Liger integration (integrations/liger/args.py; liger_swiglu is its old word) -> the plan's name."""


def read_kernels(keys: FrameworkKeys) -> None:
    """Record which modules Liger replaces, where its plugin is listed."""
    if not any(name.split(".")[2:3] == ["liger"] for name in listed_plugins(keys)):
        return
    on = {
        name: setting
        for key, name in KERNELS.items()
        if (setting := keys.flag(key)) is not None and setting.value
    }
    if on:
        asked = tuple(name for name in LIGER_KERNELS if name in on)
        keys.put("kernels", asked, next(iter(on.values())))


def read_loss(keys: FrameworkKeys) -> None:
    """Record which loss runs; a plugin's key without the plugin is noted with the other unknown keys."""
    integrations = {name.split(".")[2] for name in listed_plugins(keys) if name.count(".") >= 3}
    asked = [
        (key, setting)
        for key in LOSSES
        if (setting := keys.flag(key)) is not None and setting.value
    ]
    if len(asked) > 1:
        names = " and ".join(key for key, _ in asked)
        keys.refuse(f"{names} are both on: axolotl takes one loss", asked[1][1], "remove one")
    for key, setting in asked:
        integration, word = LOSSES[key]
        if not integration or integration in integrations:
            keys.put("loss", word, setting)
            keys.argument(key, True, setting)
            return
    cut, listed = keys.flag("cut_cross_entropy"), keys.get("plugins")
    if "cut_cross_entropy" in integrations and listed is not None and cut is None:
        # The plugin's own default is on (integrations/cut_cross_entropy/args.py).
        keys.put("loss", "fused_linear", listed)
        keys.argument("cut_cross_entropy", True, listed)
    else:
        keys.assume("loss", "full_logits", "neither liger nor cut_cross_entropy")
