"""What ms-swift trains with or holds that no plan field says: each is named, with what the estimate does instead."""

from __future__ import annotations

from preflight.launchers.framework_keys import FrameworkKeys, NotModelled

NOT_MODELLED = {
    "neftune_noise_alpha": NotModelled(
        "NEFTune's noise on the embeddings is not counted", "NEFTune", "more"
    ),
    "eval_use_evalscope": NotModelled(
        "what EvalScope generates in an evaluation is not counted",
        "generation in evaluation",
        "more",
    ),
    "predict_with_generate": NotModelled(
        "generation in evaluation is not counted", "generation in evaluation", "more"
    ),
    "adapters": NotModelled(
        "the adapter of `adapters` has a rank and modules of its own: it is estimated with those that stand here",
        "an adapter that is loaded",
        "either",
    ),
    "router_aux_loss_coef": NotModelled(
        "the routers' logits, which their own loss keeps, are not counted", "router logits", "more"
    ),
    "new_special_tokens": NotModelled("rows of new tokens are not counted", "new tokens", "more"),
}
"""Arguments whose effect on memory the plan cannot hold -> what the estimate does instead."""
GALORE = NotModelled("GaLore's low-rank states are estimated as whole ones", "GaLore", "either")
OF_UNSLOTH = NotModelled(
    "a model that Unsloth loads, trains and recomputes is estimated as transformers' and PEFT's",
    "a model of Unsloth's",
    "either",
)
OF_LORA_GA = NotModelled(
    "the gradients of whole weights that LoRA-GA starts from are not counted",
    "the start of LoRA-GA",
    "more",
)
CALLBACKS = ("adalora", "deepspeed_elastic", "early_stop", "graceful_exit", "lisa", "perf_log")
"""Callbacks of ms-swift's own that hold nothing (swift/callbacks/mapping.py, 4.6.0)."""
OFFLOADS = "activation_cpu_offload"


def name_left_out(keys: FrameworkKeys) -> None:
    """Say what of the given arguments no formula counts."""
    keys.leave_out_given(NOT_MODELLED)
    galore = keys.get("use_galore")
    if galore is not None and keys.is_on("use_galore") and "low_rank" not in keys.settings:
        keys.leave_out(GALORE, galore)
    backend = keys.get("tuner_backend")
    if backend is not None and backend.value == "unsloth":
        keys.leave_out(OF_UNSLOTH, backend)
    weights = keys.get("init_weights")
    if weights is not None and weights.value == "lora-ga":
        keys.leave_out(OF_LORA_GA, weights)
    _callbacks(keys)


def _callbacks(keys: FrameworkKeys) -> None:
    setting = keys.get("callbacks")
    named = setting.value if setting is not None else ()
    for name in named if isinstance(named, (list, tuple)) else str(named).split():
        if setting is not None and name == OFFLOADS:
            message = "activations are estimated on the card, where a callback offloads them"
            keys.leave_out(NotModelled(message, "offloaded activations", "less"), setting)
        elif setting is not None and name not in CALLBACKS:
            message = f"the callback {name} is not of ms-swift's own: what it holds is not counted"
            keys.leave_out(NotModelled(message, f"the callback {name}", "more"), setting)
