"""What changed in which release of verl."""

from __future__ import annotations

from functools import partial

from preflight.versions.boundary import Boundary

_since = partial(Boundary, "verl")

RECOMPUTES_BY_DEFAULT = _since(
    "0.2",
    "actor and critic checkpoint their activations unless they are told not to; before, where they are told to",
    "trainer/config/ppo_trainer.yaml enable_gradient_checkpointing: False in 0.1, True in 0.2",
    "0.9.1",
)
COUNTS_ROWS_OF_A_GPU = _since(
    "0.2",
    "an SFT trainer takes data.micro_batch_size_per_gpu; before, data.micro_batch_size of all ranks",
    "trainer/fsdp_sft_trainer.py _normalize_config_bsz: micro_batch_size //= dp_size in 0.1, not read in 0.2",
    "0.9.1",
)
REFERENCE_ON_HOST = _since(
    "0.2",
    "the reference lies on the host, whatever param_offload says; before, on the card",
    "workers/fsdp_workers.py _build_model_optimizer: CPUOffload(offload_params=True) in 0.2, none in 0.1",
    "0.9.1",
)
REFERENCE_IF_ASKED = _since(
    "0.4",
    "a reference is loaded where a divergence from it counts; before, always",
    "trainer/main_ppo.py: Role.RefPolicy under use_kl_in_reward or use_kl_loss in 0.4.0, always in 0.1 to 0.3.0.post1",
    "0.9.1",
)
TAKES_ENTROPY_IF_ASKED = _since(
    "0.4",
    "an update takes the entropy of its logits where entropy_coeff is not 0, which it is by default; before, always",
    "workers/actor/dp_actor.py _forward_micro_batch(calculate_entropy): 0.4.1 against 0.3.0.post1; trainer/config",
    "0.9.1",
)
UNPADS_BY_DEFAULT = _since(
    "0.7",
    "use_remove_padding is on",
    "trainer/config/model/hf_model.yaml:40: True in 0.7.1, False in 0.6.1",
    "0.9.1",
)
SERVES_ITS_ENGINE = _since(
    "0.7",
    "the engine is a process of its own on the card; before, one with the actor, of whose memory its share may be",
    "workers/fsdp_workers.py _build_rollout: no sync mode (0.7.1); vLLMRollout in the worker itself (0.4.1)",
    "0.9.1",
)
FILLS_BUCKETS = _since(
    "0.7.1",
    "weights reach vLLM in a buffer on the card, of 2 GiB unless update_weights_bucket_megabytes says more; before, one by one",
    "workers/rollout/vllm_rollout/bucketed_weight_transfer.py _init_buffer (0.7.1), which 0.7.0 has not",
    "0.9.1",
)
SCORES_IN_ENGINES = _since(
    "0.8",
    "log-probabilities are taken by the FSDP engine, of padded rows too without their padding; before, by the actor",
    "workers/engine/fsdp/transformer_impl.py prepare_model_outputs (0.8.0); workers/actor/dp_actor.py (0.7.1)",
    "0.9.1",
)
DROPS_OUTPUTS = _since(
    "0.9",
    "an update lets go of a micro batch's outputs; the FSDP engine before kept them with their graphs to its end",
    'workers/engine/fsdp/transformer_impl.py forward_backward_batch: meta_info.pop("model_output") in 0.9.0, not in 0.8.0',
    "0.9.1",
)
DIVIDES_APART = _since(
    "0.9",
    "logits are divided by the temperature into a copy; before, in place",
    "workers/engine/fsdp/transformer_impl.py: `logits_rmpad /` in 0.9.0, div_ in 0.8.0",
    "0.9.1",
)
LEAVES_UNIT_TEMPERATURE = _since(
    "0.9.1",
    "a temperature of 1 leaves logits as they are",
    "workers/engine/fsdp/transformer_impl.py:98 _scale_logits_by_temperature (0.9.1)",
    "0.9.1",
)
KEEPS_TO_TOKENS = _since(
    "0.9.1",
    "no micro batch that tokens fill goes beyond them; before, rows are divided evenly over ceil(tokens / most) of them",
    "utils/seqlen_balancing.py rearrange_micro_batches: within_limit in 0.9.1, not in 0.2 to 0.9.0",
    "0.9.1",
)
