"""What changed in which release of TRL."""

from __future__ import annotations

from functools import partial

from preflight.versions.boundary import Boundary

_since = partial(Boundary, "trl")

STORES_AS_MODEL_DTYPE = _since(
    "0.12",
    "bnb_4bit_quant_storage is the model's dtype; before, it was not set",
    "trainer/utils.py: 0.12.2 against 0.9.6",
    "0.12.2",
    until="0.26",
)
SCORES_ROWS_OF_PPO = _since(
    "0.15",
    "PPO takes log-probabilities row by row; before, a softmax of all of them at once",
    "trainer/ppo_trainer.py: 0.15.2 against 0.14.0; experimental/ppo (1.12.0)",
    "1.12.0",
    until="1.13",
)
LOGPROBS_ROW_BY_ROW = _since(
    "0.15",
    "ORPO and CPO take log-probabilities with selective_log_softmax, sequence by sequence; before, of all logits at once",
    "trainer/orpo_trainer.py, cpo_trainer.py get_batch_logps: 0.15.2 against 0.14.0; experimental/orpo (1.16.0)",
    "1.16.0",
)
SFT_TURNS_CACHE_OFF_CHECKPOINTED = _since(
    "0.15",
    "SFT turns `use_cache` off for a model that it loads itself and that checkpoints",
    "trainer/sft_trainer.py:272 (0.15.0), :357 (0.16.1); none in 0.14.0, and a comment in 0.17.0 to 0.21.0",
    "0.16.1",
    until="0.17",
)
SAYS_MAX_LENGTH = _since(
    "0.16",
    "SFT's length is `max_length`; before, `max_seq_length`",
    "trainer/sft_config.py:95 (0.16.0), :202 (1.16.0), max_seq_length at :98 (0.15.2)",
    "1.16.0",
)
DEFAULTS_TO_BF16 = _since(
    "0.19",
    "`bf16` is on unless fp16 is",
    "trainer/sft_config.py: 0.19.1 against 0.18.2",
    "1.16.0",
)
COMPARES_WITH_NOTHING = _since(
    "0.19",
    "GRPO's beta is 0, and no reference model is loaded; before, 0.04",
    "trainer/grpo_config.py:412 (0.19.1), :390 (0.18.2), :660 (1.16.0)",
    "1.16.0",
)
LOGS_ENTROPY = _since(
    "0.20",
    "GRPO takes the entropy of its logits beside log-probabilities",
    "trainer/grpo_trainer.py: 0.20.0 against 0.19.1; :1419 (1.16.0)",
    "1.16.0",
)
DEFAULTS_TO_CHECKPOINTING = _since(
    "0.22",
    "`gradient_checkpointing` is on",
    "trainer/sft_config.py: 0.22.2 against 0.21.0",
    "1.16.0",
)
SCORES_AS_GRPO = _since(
    "0.22",
    "RLOO generates and scores as GRPO does; before, its trainer was PPO's",
    "trainer/rloo_trainer.py _get_per_token_logps_and_entropies: 0.22.2 against 0.21.0; :1340 (1.16.0)",
    "1.16.0",
)
SFT_TURNS_CACHE_OFF = _since(
    "0.22",
    "SFT's loss asks for no keys and values",
    "trainer/sft_trainer.py:1040 compute_loss (0.22.0), :1564 (1.16.0); none in 0.21.0",
    "1.16.0",
)
CORRECTS_SAMPLING = _since(
    "0.23",
    "the policy scores once more what vLLM sampled (`vllm_importance_sampling_correction`)",
    "trainer/grpo_config.py:601 (0.23.1), none in 0.22.2; :904 (1.16.0)",
    "1.16.0",
)
FLATTENS_LOGITS = _since(
    "0.23",
    "the entropy of whole logits is taken of a flat copy, 128 rows at a time; before, sequence by sequence, and none before 0.20",
    "trainer/utils.py entropy_from_logits: 0.23.1 and 0.24.0 against 0.22.2; :532 (1.13.0), :634 (1.16.0)",
    "1.16.0",
)
CHUNKS_PAIRS = _since(
    "0.24",
    "a reward model scores chosen and rejected in one forward; before, in two",
    "trainer/reward_trainer.py:544 (0.24.0), :272 of 0.19.1 has two; :787 (1.16.0)",
    "1.16.0",
)
KEEPS_WHAT_IS_SAVED_TWICE = _since(
    "0.25",
    "offloading of activations notes which storage it has copied, and leaves what is saved again on the device",
    "models/activation_offloading.py storage_to_tensor_id: none in 0.24.0, in 0.27.0 and 1.16.0; between not read",
    "1.16.0",
)
LIGER_KERNEL_IS_LOSS = _since(
    "0.25",
    "`use_liger_kernel` takes GRPO's and DPO's loss with Liger too; before, `use_liger_loss` did, and it replaced modules alone",
    "trainer/grpo_trainer.py:397 (0.25.1), :359 (0.24.0), :505 (0.18.2); dpo_trainer.py:384 (0.25.1), :380 (0.24.0)",
    "1.14.0",
    until="1.15",
)
HAS_QUANT_STORAGE = _since(
    "0.26",
    "bnb_4bit_quant_storage is an argument of its own",
    "trainer/model_config.py, 0.26.0, :168 (1.16.0)",
    "1.16.0",
)
IGNORES_PROMPT_LENGTH = _since(
    "0.26",
    "GRPO takes max_prompt_length and cuts nothing at it, RLOO since 0.27; before, both cut, and later neither takes it",
    "trainer/grpo_trainer.py:1350 (0.25.1), nothing reads it in 0.26.0; rloo_trainer.py:1177 (0.26.0), nothing in 0.27.2;"
    " rloo_config.py:668 warns (0.27.2); in no config of 0.29.0",
    "0.28.0",
    until="0.29",
)
LEAVES_PROMPTS = _since(
    "0.26",
    "GRPO cuts no prompts; before, at 512 tokens unless told otherwise",
    "trainer/grpo_config.py:792 (0.26.2), :333 (0.25.1); no such argument in 0.29.0 and 1.16.0",
    "1.16.0",
)
SAYS_DTYPE = _since(
    "0.26",
    "ModelConfig's dtype is written as `dtype`, not `torch_dtype`",
    "trainer/model_config.py:92 and :184 (0.26.0): both are read, torch_dtype until 0.27; :89 (1.16.0)",
    "1.16.0",
)
CHECKS_GROUPS = _since(
    "0.26",
    "GRPO refuses a batch that is not whole groups of completions",
    "trainer/grpo_config.py, 0.26.0, :1131 (1.16.0); the releases read before do not",
    "1.16.0",
)
LOADS_FP32 = _since(
    "0.27",
    "a model given by name is loaded in fp32; before, in transformers' own default",
    "trainer/model_config.py, 0.27.2",
    "1.16.0",
)
IS_NOT_REENTRANT = _since(
    "0.27",
    "TRL asks for the non-reentrant kind of checkpointing itself",
    "trainer/sft_config.py (0.27.0), sft_trainer.py:1081 (1.16)",
    "1.16.0",
)
DIVIDES_IN_PLACE = _since(
    "1.0",
    "GRPO and RLOO divide their logits by the temperature in place, and backward copies the gradient of all of them",
    "trainer/grpo_trainer.py, rloo_trainer.py: div_ in 1.0.0 to 1.9.0, none in 0.29.1 and 1.10.0",
    "1.9.0",
    until="1.10",
)
HOLDS_LOGITS_TWICE = _since(
    "1.0",
    "GRPO and RLOO have their logits twice while entropy is taken: a flat copy of a view to 1.9, then the model's own"
    " beside divided ones; before, the divided ones alone",
    "trainer/grpo_trainer.py _get_per_token_logps_and_entropies: 0.29.1, 1.0.0, 1.13.0",
    "1.13.0",
    until="1.14",
)
COLOCATES = _since(
    "1.0",
    "`vllm_mode` is colocate; before, server",
    "trainer/grpo_config.py:502 (1.0.0), :473 (0.29.0), :573 (1.16.0)",
    "1.16.0",
)
CHECKS_REFERENCE_SYNC = _since(
    "1.0",
    "sync_ref_model is refused where there is no reference model",
    "trainer/dpo_trainer.py, 1.0.0, :992 (1.16.0); the releases read before do not",
    "1.16.0",
)
CHUNKS_LOSS = _since(
    "1.7",
    "SFT takes the loss in chunks of 256 tokens (`loss_type` chunked_nll) unless Liger does",
    "trainer/sft_config.py:107 (1.7.0), sft_trainer.py:121 (1.14.0)",
    "1.14.0",
    until="1.15",
)
GRPO_REFUSES_AUTO_BATCH = _since(
    "1.9",
    "GRPO refuses auto_find_batch_size",
    "trainer/grpo_config.py: 1.9.0 does, 1.5.0 does not; :1089 (1.16.0)",
    "1.16.0",
)
COMPLETES_512 = _since(
    "1.10",
    "`max_completion_length` is 512; before, 256",
    "trainer/grpo_config.py:491 (1.10.0), :488 (1.9.0), :473 (1.16.0)",
    "1.16.0",
)
HAS_NO_PPO = _since(
    "1.13", "there is no PPO trainer", "experimental/ppo in 1.12.0, none in 1.13.0", "1.16.0"
)
HAS_NO_PRM = _since(
    "1.14",
    "there is no trainer of process reward models, and none of BCO, Nash-MD and XPO",
    "experimental/{prm,bco,nash_md,xpo} in 1.13.0, none in 1.14.0",
    "1.16.0",
)
FUSES_LOGPROBS = _since(
    "1.14",
    "a kernel takes log-probabilities of whole logits on a GPU, and makes their gradient at once; before, torch did row by row",
    "trainer/utils.py selective_log_softmax: 1.14.0 against 1.13.0, :572 (1.16.0)",
    "1.16.0",
)
FUSES_HEAD = _since(
    "1.15",
    "SFT, DPO and KTO score with add_fused_lm_head, which multiplies by lm_head.weight past any adapter;"
    " selective checkpointing came with it",
    "trainer/sft_trainer.py, dpo_trainer.py, kto_trainer.py: 1.15.0 has it, 1.14.0 has not; utils.py:1548 (1.16.0)",
    "1.16.0",
)
