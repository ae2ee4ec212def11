"""What changed in which release of OpenRLHF."""

from __future__ import annotations

from preflight.versions.boundary import Boundary

SUMS_ROWS = Boundary(
    "openrlhf",
    "0.5.8",
    "the actor's log-probabilities take a sum of every row of logits; before, a softmax of all of them, which is kept",
    "models/utils.py log_probs_from_logits: logsumexp in 0.5.8 to 0.6.4, log_softmax in 0.3.8 to 0.5.7",
    "0.11.2",
)
SCORES_BY_KERNEL = Boundary(
    "openrlhf",
    "0.7",
    "SFT and DPO take log-probabilities by flash-attn's kernel, which keeps the logits and makes one gradient; before, by a"
    " cross entropy of cut logits and a softmax of all of them",
    "trainer/sft_trainer.py, dpo_trainer.py return_logprobs: 0.7.0 to 0.11.2 against 0.6.4; models/utils.py log_probs_from_logits",
    "0.11.2",
)

WAKES_IN_PARTS = Boundary(
    "openrlhf",
    "0.9.2",
    "an engine that sleeps is woken for the actor's weights without its keys and values; before, as a whole",
    "trainer/ppo_trainer.py broadcast_to_vllm: wake_up(tags=['weights']) in 0.9.2 to 0.11.2 against 0.9.1",
    "0.11.2",
)
