"""PF425, PF428, PF429: an adapter or a checkpointed model whose gradients do not arrive, or arrive twice.

PF425  lm_head or the embedding in modules_to_save of a model that ties them: the copy that trains is tied no more
PF428  reentrant checkpointing over a frozen base whose inputs ask for no gradients
PF429  reentrant checkpointing under DDP with find_unused_parameters: a parameter is ready twice
"""

from __future__ import annotations

from collections.abc import Iterable

from preflight.finding import Finding
from preflight.findings import found
from preflight.formulas.layers.checkpointing import is_reentrant
from preflight.formulas.trainer_arguments import argument, has_trainer, where_of
from preflight.hookspecs import hookimpl
from preflight.launch import LaunchPlan
from preflight.model import ModelSpec
from preflight.versions.peft import PREPARING
from preflight.versions.transformers import EMBEDDINGS_ASK_FOR_GRADIENTS

TIED_MODULES = ("lm_head", "embed_tokens", "wte", "embed_in", "embed_out", "word_embeddings")

WAYS_TO_ASK = ("enable_input_require_grads", "gradient_checkpointing_enable", "requires_grad_(")
"""What a script calls so that gradients reach the adapters (PEFT asks where checkpointing is on already)."""


@hookimpl
def preflight_findings(plan: LaunchPlan, model: ModelSpec | None) -> Iterable[Finding]:
    """Check where gradients go."""
    adapter = plan.adapter
    if adapter is not None and model is not None and model.tied:
        saved = [name for name in adapter.modules_to_save or () if name in TIED_MODULES]
        if len(saved) == 1:
            yield found(
                "PF425",
                f"modules_to_save trains a copy of {saved[0]}, and the model ties input and output embeddings:"
                " after training they differ, and merging the adapter unties them",
                where_of(plan, "adapter"),
                "ensure_weight_tying=True in LoraConfig (PEFT 0.18 or newer), or trainable_token_indices",
            )
    if not is_reentrant(plan):
        return
    where = where_of(plan, "checkpointing_reentrant", "activation_checkpointing")
    if adapter is not None and _inputs_are_frozen(plan):
        yield found(
            "PF428",
            "reentrant checkpointing gives no gradients where no input asks for them, and the base is frozen:"
            " the adapter does not train",
            where,
            "--gradient_checkpointing_kwargs '{\"use_reentrant\": false}', or model.enable_input_require_grads()",
            {"checkpointing_reentrant": False},
        )
    unused = argument(plan, "ddp_find_unused_parameters")
    if plan.engine == "ddp" and unused.is_on and unused.is_given and has_trainer(plan):
        yield found(
            "PF429",
            "ddp_find_unused_parameters and reentrant checkpointing mark every parameter ready twice: DDP stops",
            unused.where,
            "--gradient_checkpointing_kwargs '{\"use_reentrant\": false}'",
            {"checkpointing_reentrant": False},
        )


def _inputs_are_frozen(plan: LaunchPlan) -> bool:
    """Tell whether nothing makes the inputs ask for gradients, as far as versions and the script tell."""
    if plan.trainer not in ("transformers", "plain_loop"):
        return False  # TRL asks itself
    if EMBEDDINGS_ASK_FOR_GRADIENTS.holds_in(plan.versions):
        return False
    # PEFT's preparation asks for them where the base is packed, and not of one in 16 bits (peft/utils/other.py, 0.3 to 0.21)
    packing = plan.origins.get("base_quantization")
    may_be_packed = plan.base_quantization is not None or (packing and packing.may_be)
    ways = (*WAYS_TO_ASK, *PREPARING) if may_be_packed else WAYS_TO_ASK
    from preflight.scripts.python.repository_files import repository_text  # reads scripts

    text = repository_text(plan)
    return "import" in text and not any(way in text for way in ways)
