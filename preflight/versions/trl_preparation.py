"""Which releases of TRL make what is not packed of a quantized base fp32, and 16 bits again, by trainer.

`prepare_model_for_kbit_training` of PEFT makes it fp32 (peft/utils/other.py:158, 0.21.2; before TRL 0.7.4 its predecessor
for int8 did). Under bf16 `peft_module_casting_to_bf16` makes embeddings and head of a 4-bit base 16 bits again, and norms
fp32. Both were looked for in trainer/*_trainer.py, experimental/*/*_trainer.py and models/utils.py of the releases 0.4.7,
0.5.0, 0.7.0, 0.7.1, 0.7.4, 0.7.11, 0.8.6, 0.9.4, 0.9.6, 0.11.4, 0.12.2, 0.14.0, 0.15.2, 0.17.0, 0.19.1, 0.21.0, 0.22.2 to 0.29.0,
1.0.0, 1.2.0, 1.3.0, 1.4.0, 1.6.0 to 1.9.0, 1.12.0 and 1.16.0.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from preflight.versions.boundary import Boundary

_since = partial(Boundary, "trl")


def _prepares(trainer: str, since: str, read_in: str, until: str = "") -> Boundary:
    what = f"{trainer} prepares a quantized base for PEFT: all that is not packed of it is fp32"
    return _since(since, what, "prepare_model_for_kbit_training", read_in, until)


def _casts(trainer: str, since: str, read_in: str, until: str = "") -> Boundary:
    what = f"under bf16 {trainer} leaves norms alone in fp32 of what is not packed of a 4-bit base"
    return _since(since, what, "peft_module_casting_to_bf16", read_in, until)


_OF_UTILS = ("0.22", "1.16.0")
"""Since when a trainer that did neither calls prepare_peft_model, which does both."""
PREPARES: Mapping[str, Boundary] = {
    "sft": _prepares("SFT", "0.4.7", "0.25.1", "0.26"),
    "dpo": _prepares("DPO", "0.7.1", "0.28.0", "0.29"),
    "kto": _prepares("KTO", "0.8.6", "1.3.0", "1.4"),
    "orpo": _prepares("ORPO", "0.8.6", "1.16.0"),
    "cpo": _prepares("CPO", "0.8.6", "1.16.0"),
    "bco": _prepares("BCO", "0.11.4", "1.12.0"),
    "reward": _prepares("Reward", "0.7.11", "0.25.1", "0.26"),
    "prm": _prepares("PRM", "0.14", "1.12.0"),
    "grpo": _prepares("GRPO", "0.22", "0.25.1", "0.26"),
    "rloo": _prepares("RLOO", "0.22", "0.26.0", "0.27"),
    **dict.fromkeys(
        ("online_dpo", "nash_md", "xpo"), _prepares("Online DPO and its heirs", *_OF_UTILS)
    ),
}
"""trl_script -> where its trainer prepares a quantized base that it puts an adapter on."""
CASTS: Mapping[str, Boundary] = {
    "sft": _casts("SFT", "0.7.11", "0.25.1", "0.26"),
    "dpo": _casts("DPO", "0.7.11", "0.28.0", "0.29"),
    "kto": _casts("KTO", "0.8.6", "1.3.0", "1.4"),
    "orpo": _casts("ORPO", "0.8.6", "1.16.0"),
    "cpo": _casts("CPO", "0.8.6", "1.16.0"),
    "bco": _casts("BCO", "0.11.4", "1.12.0"),
    "reward": _casts("Reward", "0.22", "0.25.1", "0.26"),
    "prm": _casts("PRM", "0.22", "1.12.0"),
    "grpo": _casts("GRPO", "0.22", "0.25.1", "0.26"),
    "rloo": _casts("RLOO", "0.22", "0.26.0", "0.27"),
    "ppo": _casts("PPO", "0.14", "1.12.0"),
    **dict.fromkeys(
        ("online_dpo", "nash_md", "xpo"), _casts("Online DPO and its heirs", *_OF_UTILS)
    ),
}
"""trl_script -> where its trainer casts a prepared 4-bit base under bf16."""
CASTS_ADAPTERS_TOO = _since(
    "0.7.11",
    "peft_module_casting_to_bf16 casts adapters, too",
    "trainer/utils.py: BaseTunerLayer in 0.7.11 and 0.8.6, not in 0.9.4",
    "0.8.6",
    until="0.9",
)
CASTS_ADAPTERS: Mapping[str, Boundary] = {
    name: _since(
        since,
        f"{name} casts adapters on a quantized base to bf16, and leaves the base alone",
        f"trainer/{name}_trainer.py (1.16.0): param.data.to(torch.bfloat16)",
        "1.16.0",
    )
    for name, since in (
        *dict.fromkeys(("sft", "reward", "grpo"), "0.26").items(),
        ("rloo", "0.27"),
        ("dpo", "0.29"),
        ("kto", "1.4"),
    )
}
"""trl_script -> where its trainer makes adapters on a quantized base 16 bits itself."""
LEAVES_ADAPTED: Mapping[str, Boundary] = {
    name: _since(
        since,
        f"{name} leaves a model that has an adapter as it is, whatever peft_config it is told",
        f"trainer/{name}_trainer.py: `if not isinstance(model, PeftModel)` before both, or `return model`",
        read_in,
        until,
    )
    for name, since, read_in, until in (
        ("sft", "0.4.7", "0.19.1", "0.20"),
        ("reward", "0.7.11", "0.21.0", "0.22"),
        ("prm", "0.14", "0.21.0", "0.22"),
    )
}
"""trl_script -> releases whose trainer does neither to such a model; those behind them merge the adapter first, as DPO
always did, and from 0.29 refuse it (read in sft_trainer.py of 0.4.7, 0.7.4, 0.7.11, 0.8.6, 0.9.6, 0.11.4, 0.15.2 and 0.17.0
to 1.0.0)."""
BOUNDARIES = (
    *PREPARES.values(),
    *CASTS.values(),
    *CASTS_ADAPTERS.values(),
    CASTS_ADAPTERS_TOO,
    *LEAVES_ADAPTED.values(),
)
