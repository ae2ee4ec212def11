"""PF3xx: DeepSpeed and its config file."""

from __future__ import annotations

from preflight.findings.kind import FindingKind

_CORPUS = "tests/dialects/test_parity_accelerate.py::test_plan_or_refusal_is_the_one_of_the_installed_accelerate"
_SAID = "tests/dialects/test_parity_accelerate.py::test_what_is_said_about_a_launch_is_what_the_manifest_says"

KINDS: dict[str, FindingKind] = {
    "PF301": FindingKind(
        name="deepspeed-without-settings",
        severity="warning",
        proof_kind="silent",
        trigger="DeepSpeed mode without a section or file",
        effect="accelerate's default is ZeRO stage 2 without offload",
        fix="zero_stage, or a DeepSpeed file",
        proof=(_CORPUS,),
    ),
    "PF302": FindingKind(
        name="keys-beside-deepspeed-file",
        severity="error",
        proof_kind="refusal",
        trigger="`deepspeed_config_file` beside any of the nine keys that it replaces, `mixed_precision` among them",
        effect="every worker stops: `When using deepspeed_config_file, the following accelerate config variables will be ignored` (accelerate/utils/dataclasses.py:1526, 1.15)",
        fix="move the values into the DeepSpeed file",
        proof=(_CORPUS,),
    ),
    "PF303": FindingKind(
        name="deepspeed-and-trainer-disagree",
        severity="error",
        proof_kind="refusal",
        trigger="a value of the DeepSpeed file that is not `auto` and not the trainer's own (batch, accumulation, clipping, precision)",
        effect="transformers stops in every worker: `Please correct the following DeepSpeed config values that mismatch TrainingArguments values` (transformers/integrations/deepspeed.py, 5.24)",
        fix="`auto` in the file",
        proof=(
            "tests/hooks/test_read_accelerate.py::test_deepspeed_and_trainer_that_disagree_are_named_with_both_places",
        ),
    ),
    "PF304": FindingKind(
        name="zero-init-flag-without-effect",
        severity="info",
        proof_kind="silent",
        trigger="`zero3_init_flag: false` under ZeRO-3 with transformers",
        effect="transformers partitions at load all the same",
        fix="remove it",
        proof=(_SAID,),
    ),
    "PF305": FindingKind(
        name="nvme-path-not-handed-over",
        severity="warning",
        proof_kind="silent",
        trigger="an NVMe path in the accelerate config",
        effect="accelerate never hands it to DeepSpeed: its nvme_path stays unset",
        fix="the path in a DeepSpeed file",
        proof=(_SAID,),
    ),
    "PF306": FindingKind(
        name="bf16-auto-is-fp32",
        severity="warning",
        proof_kind="silent",
        trigger="`bf16: {enabled: auto}` in the DeepSpeed file and no --bf16 in the trainer's arguments",
        effect="training runs in fp32: twice the memory, and slow",
        fix="--bf16 true",
        proof=(_SAID,),
    ),
    "PF307": FindingKind(
        name="parameter-offload-without-stage-3",
        severity="warning",
        proof_kind="silent",
        trigger="`offload_param` with ZeRO stage 0, 1 or 2",
        effect="only stage 3 uses it (deepspeed/runtime/engine.py, 0.19)",
        fix="stage 3, or remove it",
        proof=(_CORPUS,),
    ),
    "PF308": FindingKind(
        name="auto-that-nobody-fills",
        severity="warning",
        proof_kind="silent",
        trigger="`auto` for a key that neither transformers nor accelerate fills",
        effect="DeepSpeed drops it and uses its own default",
        fix="a number",
        proof=(_CORPUS,),
    ),
    "PF309": FindingKind(
        name="unknown-deepspeed-key",
        severity="error",
        proof_kind="refusal",
        trigger="a key that DeepSpeed does not know, or has removed",
        effect="inside a section DeepSpeed's model refuses it in every worker; at the top level it is ignored",
        fix="the spelling that DeepSpeed knows, or remove it",
        proof=(
            "tests/dialects/test_accelerate_tables.py::test_removed_keys_are_those_of_the_installed_deepspeed",
        ),
    ),
}
