"""Which attention a model runs where nobody asked for one: transformers takes SDPA, and eager where a class has none."""

from __future__ import annotations

from collections.abc import Mapping

from preflight.formulas.user_loop import has_own_model_code
from preflight.launch import LaunchPlan, Origin
from preflight.model import ModelSpec
from preflight.values import replace
from preflight.versions import torch, transformers
from preflight.versions.boundary import Boundary, has_begun

EAGER_VERSIONS: Mapping[str, tuple[Boundary | None, Boundary | None]] = {
    "bert": (None, transformers.BERT_HAS_SDPA),
    "distilbert": (None, transformers.DISTILBERT_HAS_SDPA),
    "roberta": (None, transformers.ROBERTA_HAS_SDPA),
    "xlm-roberta": (None, transformers.ROBERTA_HAS_SDPA),
    "xlm-roberta-xl": (None, transformers.ROBERTA_HAS_SDPA),
    "camembert": (None, transformers.ROBERTA_HAS_SDPA),
    **dict.fromkeys(
        ("data2vec-text", "electra", "ernie", "roberta-prelayernorm", "bert-generation"),
        (None, transformers.OTHER_ENCODERS_HAVE_SDPA),
    ),
    "bloom": (None, None),
    **dict.fromkeys(("t5", "mt5", "umt5"), (None, transformers.T5_HAS_SDPA)),
    **dict.fromkeys(("gpt2", "gpt_neox"), (None, transformers.GPT2_HAS_SDPA)),
    **dict.fromkeys(("mistral", "mixtral"), (None, transformers.MISTRAL_HAS_SDPA)),
    **dict.fromkeys(("phi", "stablelm"), (None, transformers.PHI_HAS_SDPA)),
    "gemma2": (transformers.GEMMA2_HAS_NO_SDPA, None),
    "gpt_oss": (None, None),
    "gptj": (None, transformers.GPTJ_HAS_SDPA),
    "opt": (None, transformers.OPT_HAS_SDPA),
    "phi3": (None, transformers.PHI3_HAS_SDPA),
}
"""Type -> since when its class has no SDPA, None for ever since; and since when it has, None for not yet.

Read in modeling_*.py of the releases 4.36.2 to 5.24.0. `get_correct_attn_implementation` (modeling_utils.py,
5.24.0) takes eager there: ALiBi, sinks and capped scores are not in torch's kernel.
"""
OF_OWN_CODE = {"internlm": "eager"}
"""Owner of models whose checkpoints bring code that transformers has not -> what that runs where nobody names an attention.

InternLM2's config fills in eager where it has none, and looks its class up by that word (internvl/model/internlm2/
configuration_internlm2.py:121 and modeling_internlm2.py:617-629 of OpenGVLab/InternVL, a copy of theirs); MiniCPM's and
Qwen's first code run SDPA as transformers does.
"""
OWN_SDPA = frozenset({"chatglm"})
"""Types whose own code asks torch for it, whatever transformers does (modeling_chatglm.py of THUDM/chatglm3-6b)."""
RUNS_SDPA = (transformers.HAS_SDPA, torch.SERVES_SDPA)
"""What must hold for any class to run SDPA."""


def default_attention(model_type: str, versions: Mapping[str, str]) -> str:
    """Return what transformers of these releases runs when nobody names an attention."""
    if model_type not in EAGER_VERSIONS:
        return "sdpa"
    first, until = EAGER_VERSIONS[model_type]
    is_eager = has_begun(first, versions) and not (until and until.holds_in(versions))
    return "eager" if is_eager else "sdpa"


def attention_of_class(model: ModelSpec, versions: Mapping[str, str]) -> str:
    """Return what a model's class runs when nobody names an attention; a table says it of a type that has one."""
    if (owner := owner_of_code(model)) in OF_OWN_CODE:
        return OF_OWN_CODE[owner]
    of_table = model.facts.get("attention")
    if model.model_type in EAGER_VERSIONS:
        of_table = None
    return str(of_table) if of_table else default_attention(model.model_type, versions)


def owner_of_code(model: ModelSpec) -> str:
    """Return the owner of a model, or of the one whose shapes it was given."""
    return (model.name if model.like is None else model.like.model).partition("/")[0]


def attention_in(plan: LaunchPlan, model: ModelSpec) -> str:
    """Return what a model's class runs under a launch's releases when nobody names an attention."""
    needed = (torch.HAS_SDPA,) if model.model_type in OWN_SDPA else RUNS_SDPA
    if not all(boundary.holds_in(plan.versions) for boundary in needed):
        return "eager"
    return attention_of_class(model, plan.versions)


def with_default_attention(plan: LaunchPlan, model: ModelSpec) -> LaunchPlan:
    """Return the plan with eager attention where the model's class has nothing else and nobody asked for more.

    A class whose forward the script replaces by one that keeps no scores is what runs where its type has no other: it is
    the one that eager attention takes in every release (LlamaAttention in models/llama/modeling_llama.py, 4.28.1 to 4.57.3).
    """
    origin = plan.origins.get("attention")
    is_given = plan.attention is not None and (origin is None or not origin.assumed)
    if is_given or has_own_model_code(plan):
        return plan
    if attention_in(plan, model) == "sdpa":
        return plan
    replaced = plan.script_facts.without_scores.get(f"{model.model_type.replace('_', '')}attention")
    if replaced is not None and model.model_type not in EAGER_VERSIONS:
        settled = Origin(replaced.where, False)
        return replace(plan, attention="sdpa", origins={**plan.origins, "attention": settled})
    version = plan.versions.get("transformers")
    library = "transformers" + (f" {version}" if version else "")
    is_old = not torch.SERVES_SDPA.holds_in(plan.versions)
    is_own = owner_of_code(model) in OF_OWN_CODE
    of_type = f"{'the code beside its weights' if is_own else model.model_type} has no SDPA there"
    what = "it takes no SDPA of this torch" if is_old else of_type
    reason = f"{what}, and nobody names another attention"
    may_be = origin.may_be if origin is not None else ()
    settled = Origin(f"{OF_CLASS}{library}", True, reason, may_be)
    return replace(plan, attention="eager", origins={**plan.origins, "attention": settled})


OF_CLASS = "default of the model's class in "


def is_of_class(origin: Origin) -> bool:
    """Tell whether a value was settled here, so that no launch says it."""
    return origin.where.startswith(OF_CLASS)
