"""attention_kernel: attention that never holds its scores, in place of the eager one that does.

Saves      eager attention keeps 6 bytes a head, token and token it looks at: all of it goes
Costs      nothing: it is faster
Safety     equivalent: the same softmax, summed in another order
Written as --attn_implementation sdpa (TRL), attn_implementation: sdpa (axolotl), flash_attn: sdpa (LLaMA-Factory)
Not where the model's class has no SDPA, such as BLOOM, Gemma 2 and gpt-oss: their scores are capped, or
           have sinks, and torch's kernel would leave that out; transformers before 4.36, torch before 2.1.1
"""

from __future__ import annotations

from collections.abc import Iterable

from preflight.formulas.layers.attention import attention_in
from preflight.formulas.user_loop import has_own_model_code
from preflight.hookspecs import hookimpl
from preflight.launch import LaunchPlan
from preflight.model import ModelSpec
from preflight.remedy import Remedy


@hookimpl
def preflight_remedies(plan: LaunchPlan, model: ModelSpec) -> Iterable[Remedy]:
    """Replace eager attention by SDPA where the model's class has it."""
    if plan.attention != "eager" or has_own_model_code(plan):
        return
    if attention_in(plan, model) != "sdpa":
        return
    yield Remedy(
        "attention_kernel",
        "SDPA in place of eager attention",
        {"attention": "sdpa"},
        "equivalent",
        how="--attn_implementation sdpa",
    )
