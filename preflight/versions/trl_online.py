"""What changed in which release of TRL about trainings on completions that they generate."""

from __future__ import annotations

from functools import partial

from preflight.versions.boundary import Boundary

_since = partial(Boundary, "trl")

HAS_GRPO = _since(
    "0.14",
    "there is a trainer of GRPO",
    "trainer/grpo_trainer.py: 0.14.0, none in 0.13.0; 1.16.0",
    "1.16.0",
)
SCORES_AHEAD = _since(
    "0.15",
    "GRPO's micro batch is of completions, which are generated and scored before its forward; before, of prompts, whose"
    " completions were generated and trained in one forward, and the reference scored them beside its graph",
    "trainer/grpo_trainer.py _prepare_inputs: 0.15.2 against compute_loss of 0.14.0; :1522 (1.16.0)",
    "1.16.0",
)
SERVES_ENGINE = _since(
    "0.16",
    "vLLM is a server that gets a parameter at a time; before, an engine of the main process on the card after the ranks'"
    " (`vllm_device`), for which ZeRO-3 gathered the whole policy",
    "trainer/grpo_trainer.py VLLMClient: 0.16.0 against LLM(device=...) in 0.15.2; grpo_config.py:332 (0.18.2)",
    "1.16.0",
)
NEEDS_NO_REFERENCE = _since(
    "0.16",
    "GRPO with a beta of 0 loads no reference model; before, it loads one whatever its beta",
    "trainer/grpo_trainer.py __init__: `if self.beta == 0.0` in 0.16.1, none in 0.15.2; :984 (1.16.0)",
    "1.16.0",
)
DIVIDES_BY_TEMPERATURE = _since(
    "0.16",
    "GRPO divides its logits by the temperature; before, it scored them as they are",
    "trainer/grpo_trainer.py _get_per_token_logps: 0.16.0 against 0.15.2, the same in 0.18.2",
    "1.16.0",
)
GENERATES_FOR_A_STEP = _since(
    "0.17",
    "GRPO generates for all micro steps of an optimizer step at once; before, for each of them, between the gradients of two",
    "trainer/grpo_trainer.py _prepare_inputs: 0.17.0 against 0.16.1; steps_per_generation in grpo_config.py (0.18.2, 1.16.0)",
    "1.16.0",
)
REFERENCE_IN_LOSS = _since(
    "0.18",
    "GRPO's reference scores a micro batch beside the graph of its forward; before and after, ahead of it",
    "trainer/grpo_trainer.py _compute_loss: 0.18.0 to 0.18.2, _generate_and_score_completions in 0.17.0 and 0.19.1",
    "0.18.2",
    until="0.19",
)
GATHERS_ROOT = _since(
    "0.18",
    "FSDP's root unit is gathered to generate; before, a generation under FSDP had no embeddings",
    "trainer/grpo_trainer.py FSDP.summon_full_params: :1096 (0.18.2), none in 0.17.0; :1794 (1.16.0)",
    "1.16.0",
)
SWITCHES_ADAPTER_OFF = _since(
    "0.19",
    "GRPO's reference is the policy with its adapter off, whatever the engine; before, a second copy under ZeRO-3, and in"
    " 0.18 under FSDP too",
    "trainer/grpo_trainer.py __init__: is_deepspeed_zero3_enabled() asked first in 0.14.0 to 0.18.2, not in 0.19.1; :984 (1.16.0)",
    "1.16.0",
)
LOADS_REFERENCE_BY_NAME = _since(
    "0.19",
    "GRPO and RLOO load their reference by the policy's name, in from_pretrained's own dtype where the policy was handed over"
    " as a model; before, they copied the policy, and later they ask for its dtype",
    "trainer/grpo_trainer.py __init__: create_reference_model in 0.18.2, from_pretrained in 0.19.1 and 0.24.0, setdefault(dtype) at :1001 (1.16.0)",
    "1.15.0",
    until="1.16",
)
