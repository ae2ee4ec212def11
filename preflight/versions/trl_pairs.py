"""What changed in which release of TRL about trainings on pairs of answers, before their head was fused."""

from __future__ import annotations

from functools import partial

from preflight.versions.boundary import Boundary

_since = partial(Boundary, "trl")

DPO_TAKES_NLL = _since(
    "0.9",
    "DPO takes the cross entropy of chosen answers in every step, used or not",
    "trainer/dpo_trainer.py concatenated_forward: :1292 in 0.9.6, the same in 0.11.4, none in 0.8.6 and 0.12.2",
    "0.11.4",
    until="0.12",
)
DPO_SCORES_AGAIN = _since(
    "0.9",
    "DPO runs the policy again in every step for log-probabilities that were computed before, unless rpo_alpha is given",
    "trainer/dpo_trainer.py get_batch_loss_metrics: :1341 in 0.9.6, none in 0.8.6 and 0.10.1",
    "0.9.6",
    until="0.10",
)
SCRIPT_LOADS_POLICY = _since(
    "0.9",
    "TRL's own script of DPO loads the policy; later it hands its name to the trainer",
    "scripts/dpo.py: from_pretrained in 0.13.0 to 1.4.0, none in 1.5.0; examples/scripts/dpo.py before",
    "1.4.0",
    until="1.5",
)
DPO_CUTS_NOTHING = _since(
    "0.12",
    "DPO cuts nothing unless max_length says so; before, 512 tokens were taken, and later 1024",
    "trainer/dpo_trainer.py concatenated_forward: 0.12.2 and 0.13.0 against 0.11.4; dpo_config.py:231 (0.14.0)",
    "0.13.0",
    until="0.14",
)
DPO_LOSES_LOGPROBS = _since(
    "0.12",
    "DPO's collator leaves out log-probabilities that were computed before, and every step runs the policy again for them",
    "trainer/dpo_trainer.py: 0.12.0 to 0.12.2; :133 and :152 put them into the batch in 0.13.0",
    "0.12.2",
    until="0.13",
)
DPO_CACHES_KEYS = _since(
    "0.12",
    "DPO leaves `use_cache` of the model's config on: the outputs hold the keys and values of every layer",
    "trainer/dpo_trainer.py concatenated_forward: use_cache=False in 0.11.4 and 0.18.2, none in 0.12.2 to 0.17.0",
    "0.17.0",
    until="0.18",
)
DPO_DROPS_LOGITS = _since(
    "0.12",
    "DPO hands on means of logits; before, and again later, whole logits live through the reference's forward",
    "trainer/dpo_trainer.py concatenated_forward: 0.11.4, 0.12.2, 0.28.0; _compute_loss (0.29.0, 1.14.0)",
    "0.28.0",
    until="0.29",
)
DPO_CUTS_ANSWERS = _since(
    "0.12",
    "DPO cuts answers at max_completion_length, and prompts at max_prompt_length; before, and later, a row alone",
    "trainer/dpo_trainer.py tokenize_row: :745 in 0.12.2, the same in 0.13.0 to 0.28.0, none in 0.11.4 and 0.29.1",
    "0.28.0",
    until="0.29",
)
CUTS_PAIRS_AT_1024 = _since(
    "0.14",
    "`max_length` of DPO, KTO, ORPO, CPO and BCO is 1024; before, none, and the trainers took 512",
    "trainer/dpo_config.py:231, kto_config.py, orpo_config.py, cpo_config.py, bco_config.py (0.14.0, 0.13.0)",
    "1.16.0",
)
DPO_HAS_PADDING_FREE = _since(
    "0.14",
    "DPO puts the tokens of a micro batch into one row where `padding_free` is on; later it says so, and pads",
    "trainer/dpo_trainer.py: 0.14.0 to 0.28.0, :576 (0.29.1), :733 (1.16.0)",
    "0.28.0",
    until="0.29",
)
DPO_ROLLS_LABELS = _since(
    "0.14",
    "DPO shifts labels and scores all logits; before, it cut the last position off, and softmax copied what was left",
    "trainer/dpo_trainer.py torch.roll: 0.14.0 to 0.28.0, none in 0.13.0 and 0.29.0",
    "0.28.0",
    until="0.29",
)
CUTS_PROMPTS_AT_512 = _since(
    "0.14",
    "`max_prompt_length` of DPO and PRM is 512; before, None in DPO, and PRM had none",
    "trainer/dpo_config.py:223, prm_config.py:61 (0.14.0; 0.13.0), the same in 0.28.0's DPO",
    "0.28.0",
    until="0.29",
)
PRM_CUTS_PROMPTS = _since(
    "0.14",
    "PRM cuts prompts at max_prompt_length, as it cuts answers in every release",
    "trainer/prm_trainer.py:281 (0.14.0), experimental/prm/prm_trainer.py (0.26.2, 0.27.2), none in 0.13.0 and 0.28.0",
    "0.27.2",
    until="0.28",
)
DPO_SCORES_ROWS = _since(
    "0.15",
    "DPO takes log-probabilities with selective_log_softmax, sequence by sequence; before, of all logits at once",
    "trainer/dpo_trainer.py: 0.14.0 against 0.15.2, :1385 (1.13.0)",
    "1.16.0",
)
DPO_SHARDS_REFERENCE = _since(
    "0.16",
    "DPO wraps its reference model with FSDP1; before, accelerate left it as it was, whole and on the host",
    "trainer/dpo_trainer.py prepare_fsdp: 0.16.1, none in 0.15.2; models/utils.py prepare_fsdp (0.16.1, 1.16.0)",
    "1.16.0",
)
DPO_KEEPS_HIDDEN_STATES = _since(
    "0.19",
    "DPO asks the model for the hidden states of every layer",
    "trainer/dpo_trainer.py output_hidden_states: 0.19.1 to 0.28.0, none in 0.18.2 and 0.29.0",
    "0.28.0",
    until="0.29",
)
DPO_TAKES_ENTROPY = _since(
    "0.29",
    "DPO takes the entropy of its logits when the reference has run",
    "trainer/dpo_trainer.py _compute_loss: 0.29.0, none in 0.28.0; :1498 (1.16.0)",
    "1.16.0",
)
DPO_KEEPS_REFERENCE = _since(
    "0.29",
    "DPO loads a reference model, and keeps it, where its log-probabilities are computed before",
    "trainer/dpo_trainer.py: :749 in 1.0.0, the same in 0.29.1; 0.28.0 and 1.3.0 ask precompute_ref_log_probs first",
    "1.0.0",
    until="1.3",
)
DPO_COPIES_LOGITS = _since(
    "0.29",
    "DPO copies the logits of all positions but the last",
    "trainer/dpo_trainer.py shift_logits: .contiguous() in 0.29.0 to 1.5.0, none in 1.6.0",
    "1.5.0",
    until="1.6",
)
DPO_LOADS_REFERENCE = _since(
    "0.29",
    "DPO without a reference model loads one by the policy's name, in fp32 unless model_init_kwargs says otherwise; before,"
    " it copied the policy, and later it asks for the policy's dtype",
    "trainer/dpo_trainer.py: create_reference_model in 0.28.0, create_model_from_path in 0.29.0 to 1.15.0, setdefault in 1.16.0",
    "1.15.0",
    until="1.16",
)
REFERENCE_HAS_FSDP2 = _since(
    "0.29",
    "a model that TRL wraps beside the policy is wrapped with fully_shard under FSDP2; before, with FSDP1's class",
    "models/utils.py prepare_fsdp: 0.28.0 against 0.29.1 (1.16.0)",
    "1.16.0",
)
KTO_SCORES_WHOLE = _since(
    "1.8",
    "KTO's trainer is no experiment, and takes the entropy of its logits as DPO does",
    "trainer/kto_trainer.py: 1.8.0 against experimental/kto/kto_trainer.py (1.7.0)",
    "1.13.0",
    until="1.14",
)
