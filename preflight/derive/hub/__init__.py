"""Model types whose code is on the hub and not in transformers: modules of the same mathematics, to lay out and trace.

Nothing of the hub runs here: each module says which copy of its code it was written from, and gives the same loss and
keeps the same bytes for backward.
"""

from __future__ import annotations

from functools import cache


@cache
def register() -> None:
    """Tell transformers' Auto classes of the types of this package."""
    from transformers import AutoConfig, AutoModelForCausalLM

    from preflight.derive.hub import chatglm, chatglm1

    for model_class in (chatglm.ChatGLMForCausalLM, chatglm1.ChatGLM1ForCausalLM):
        config_class = model_class.config_class
        AutoConfig.register(config_class.model_type, config_class, exist_ok=True)
        AutoModelForCausalLM.register(config_class, model_class, exist_ok=True)
