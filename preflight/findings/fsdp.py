"""PF2xx: FSDP1 and FSDP2."""

from __future__ import annotations

from preflight.findings.kind import FindingKind

_CORPUS = "tests/dialects/test_parity_accelerate.py::test_plan_or_refusal_is_the_one_of_the_installed_accelerate"
_SAID = "tests/dialects/test_parity_accelerate.py::test_what_is_said_about_a_launch_is_what_the_manifest_says"

KINDS: dict[str, FindingKind] = {
    "PF201": FindingKind(
        name="setting-of-the-other-fsdp",
        severity="warning",
        proof_kind="silent",
        trigger="`fsdp_sharding_strategy` under FSDP2, `fsdp_reshard_after_forward` under FSDP1, and the like",
        effect="it is read and has no effect: the default is used (accelerate/utils/dataclasses.py, 1.15)",
        fix="the key of this version: fsdp_reshard_after_forward under FSDP2, fsdp_sharding_strategy under FSDP1",
        proof=(_CORPUS,),
    ),
    "PF202": FindingKind(
        name="no-wrap-policy",
        severity="warning",
        proof_kind="silent",
        trigger="FSDP without a wrap policy, or with one that wraps no layer",
        effect="the whole model is one unit: all its parameters are gathered at once",
        fix="fsdp_auto_wrap_policy: TRANSFORMER_BASED_WRAP",
        proof=(_SAID,),
    ),
    "PF203": FindingKind(
        name="two-checkpointing-switches",
        severity="error",
        proof_kind="refusal",
        trigger="FSDP's own activation checkpointing and the trainer's are both on",
        effect="transformers refuses in every worker: the two cannot both be set (transformers/trainer.py, 5.24)",
        fix="one of them; the trainer's keeps the random state",
        proof=("tests/hooks/test_read_accelerate.py::test_one_checkpointing_switch_is_enough",),
    ),
    "PF204": FindingKind(
        name="dropout-under-fsdp2-checkpointing",
        severity="error",
        proof_kind="silent",
        trigger="`fsdp_version: 2`, `fsdp_activation_checkpointing: true`, and any dropout above zero in the wrapped layers (attention_dropout and the like, lora_dropout)",
        effect="accelerate wraps layers with preserve_rng_state=False (accelerate/utils/fsdp_utils.py:720, 1.15.0): the recomputation draws other dropout masks than the forward did, gradients are wrong, and nothing says so",
        fix="fsdp_activation_checkpointing: false and the trainer's own --gradient_checkpointing true, which restores the random state and saves as much",
        proof=("tests/hooks/test_checks.py::test_dropout_under_fsdp2_checkpointing_is_an_error",),
    ),
    "PF205": FindingKind(
        name="trainer-flags-replace-fsdp",
        severity="warning",
        proof_kind="silent",
        trigger="`--fsdp` among the trainer's arguments of a launch whose launcher has FSDP settings",
        effect="the trainer's flags replace the launcher's settings; what they do not name comes from the trainer's own defaults",
        fix="keep the settings in one place",
        proof=(_SAID,),
    ),
}
