"""PF4xx: precision, attention, quantization, PEFT, the loss and the optimizer."""

from __future__ import annotations

from preflight.findings.kind import FindingKind

KINDS: dict[str, FindingKind] = {
    "PF401": FindingKind(
        name="bf16-unsupported",
        severity="warning",
        proof_kind="node",
        trigger="bf16 on a device without it (compute capability below 8.0)",
        effect="torch emulates it, many times slower, and counts it as supported (torch/cuda/__init__.py:191, 2.13); before torch did so, transformers refused with `Your setup doesn't support bf16/gpu` in every worker",
        fix="fp16 with weights loaded in float32, or a device of compute capability 8.0 or newer",
        proof=("tests/hooks/test_checks.py::test_bf16_needs_a_device_that_has_it",),
    ),
    "PF402": FindingKind(
        name="fp16-weights-under-fp16",
        severity="error",
        proof_kind="refusal",
        trigger="fp16 mixed precision on trainable weights that are fp16 themselves, without DeepSpeed",
        effect="the first clip or step stops with `Attempting to unscale FP16 gradients` (torch/amp/grad_scaler.py:275, 2.13)",
        fix="load the weights in float32",
        proof=("tests/hooks/test_checks.py::test_fp16_weights_do_not_train_under_fp16",),
    ),
    "PF403": FindingKind(
        name="quantized-base-not-sharded",
        severity="warning",
        proof_kind="silent",
        trigger="QLoRA under FSDP2 with bitsandbytes' default uint8 storage",
        effect="accelerate leaves the packed weights out of sharding with one warning (accelerate/utils/fsdp_utils.py:789, 1.15.0): every rank holds the base whole",
        fix="--bnb_4bit_quant_storage bfloat16 (bnb_4bit_quant_storage=torch.bfloat16)",
        proof=("tests/hooks/test_checks.py::test_a_base_that_sharding_does_not_reach_is_named",),
    ),
    "PF404": FindingKind(
        name="frozen-base-replicated",
        severity="warning",
        proof_kind="silent",
        trigger="adapters under ZeRO-1 or ZeRO-2",
        effect="these stages shard what trains, and the base does not train: every rank holds it whole",
        fix="ZeRO-3 or FSDP",
        proof=("tests/hooks/test_checks.py::test_a_base_that_sharding_does_not_reach_is_named",),
    ),
    "PF405": FindingKind(
        name="adapter-without-targets",
        severity="error",
        proof_kind="refusal",
        trigger="an adapter without target modules on an architecture that PEFT has no default for",
        effect="PEFT stops in every worker: `Please specify target_modules in peft_config` (peft/tuners/tuners_utils.py, 0.21.2); the estimate takes all linear layers",
        fix="--lora_target_modules all-linear, or the names of the layers to adapt",
        proof=("tests/hooks/test_checks.py::test_peft_wants_targets_where_it_has_no_default",),
    ),
    "PF406": FindingKind(
        name="optimizer-unknown",
        severity="warning",
        proof_kind="reading",
        trigger="an optimizer whose states are not known",
        effect="it is estimated as Adam: two states per trained parameter, in the dtype of the weights or fp32",
        fix="--set optimizer=adafactor, or any other of the Trainer's names, takes another one for the estimate",
        proof=("tests/test_cli_answers.py::test_an_optimizer_that_is_not_known_is_named",),
    ),
}
