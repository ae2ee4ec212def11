"""What changed in which release of ms-swift."""

from __future__ import annotations

from functools import partial

from preflight.versions.boundary import Boundary

_since = partial(Boundary, "ms_swift")

KEEPS_LOGITS = _since(
    "3.5.0",
    "sft makes logits of the tokens that are answers alone, where the model's forward takes logits_to_keep",
    "trainers/mixin.py:113 get_use_logits_to_keep (3.5.0); logits_to_keep in the GRPO trainer alone (3.4.1)",
    "4.6.0",
)
SCORES_PAIRS_ROW_BY_ROW = _since(
    "3.5.0",
    "dpo takes log-probabilities of logits row by row, and moves labels; before, of all of them, without the last position",
    "trainers/rlhf_trainer/dpo_trainer.py get_per_token_logps (3.5.0), get_batch_logps (3.4.1)",
    "4.6.0",
)
PLAIN_DDP_RECOMPUTES = _since(
    "3.6.0",
    "checkpointing is not reentrant under plain DDP; before, and elsewhere, it is, unless the arguments say otherwise",
    "trainers/mixin.py:346 _fix_gradient_checkpointing (3.6.0); trainers/arguments.py:73, always true (3.5.3)",
    "4.6.0",
)
COMPLETES_ITS_KTO = _since(
    "3.9.0",
    "kto runs a forward of its own, which keeps log-probabilities alone; before, TRL's does",
    "trainers/rlhf_trainer/kto_trainer.py forward and get_batch_logps (3.9.3), super().forward (3.8.3)",
    "4.6.0",
)
GRPO_DIVIDES_IN_PLACE = _since(
    "4.4.0",
    "grpo scores completions itself, and divides their logits in place; before, TRL's method does, without entropy",
    "rlhf_trainers/grpo_trainer.py _get_logps_via_local_forward (4.4.2), super()._get_per_token_logps (3.5.3 to 4.3.2)",
    "4.6.0",
)
KEEPS_LORA_DTYPE = _since(
    "4.5.0",
    "lora_dtype is what an adapter is trained in; before, PEFT casts it to fp32 afterwards",
    "tuners/peft.py:147 _cast_adapter_dtype_hook (4.5.0); no such hook (4.4.2)",
    "4.6.0",
)
