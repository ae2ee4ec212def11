"""PF405, PF421 to PF429 and PF447: adapters, and how gradients reach them."""

from __future__ import annotations

from preflight.findings.kind import FindingKind

_FIRES = "tests/hooks/test_checks.py"
_REFUSED = "tests/hooks/test_training_refusals.py::test_the_library_refuses_what_the_check_names"
_RANKS = "tests/hooks/test_training_ranks.py"
_EFFECTS = "tests/hooks/test_training_effects.py"

KINDS: dict[str, FindingKind] = {
    "PF405": FindingKind(
        name="adapter-without-targets",
        severity="error",
        proof_kind="refusal",
        trigger="an adapter without target modules on an architecture that PEFT has no default for",
        effect="PEFT stops in every worker: `Please specify target_modules in peft_config` (peft/tuners/tuners_utils.py, 0.21.2); the estimate takes all linear layers",
        fix="--lora_target_modules all-linear, or the names of the layers to adapt",
        proof=(f"{_FIRES}::test_peft_wants_targets_where_it_has_no_default", _REFUSED),
    ),
    "PF421": FindingKind(
        name="adapter-targets-not-found",
        severity="error",
        proof_kind="refusal",
        trigger="target modules of which the model has none; names in one word with commas; one bare name, which TRL's ModelConfig turns into a pattern for whole module names",
        effect="`Target modules {...} not found in the base model. Please check the target modules and try again.` (peft/tuners/tuners_utils.py, 0.21.2) in every worker, after the model was loaded",
        fix="the names that the model's layers have, separated by spaces",
        versions="PEFT 0.13 to 0.21, as read",
        proof=(_REFUSED,),
    ),
    "PF422": FindingKind(
        name="adapter-target-ignored",
        severity="warning",
        proof_kind="silent",
        trigger="among the target modules some that the model does not have",
        effect="PEFT adapts the others and says nothing",
        fix="the name that the layer has",
        proof=(f"{_EFFECTS}::test_a_target_that_the_model_does_not_have_is_passed_over",),
    ),
    "PF423": FindingKind(
        name="adapter-on-fused-experts",
        severity="error",
        proof_kind="refusal",
        trigger="with transformers 5, an adapter on the experts of Mixtral, Qwen3-MoE, OLMoE, DeepSeek and the like (all-linear, or gate_proj and its kind) with lora_dropout above 0 (TRL's default is 0.05), with DoRA, or on one of the two layers that became one parameter; any all-linear with PEFT 0.19",
        effect="`lora.ParamWrapper does not work with lora_dropout != 0.` (peft/tuners/lora/layer.py:2366, 0.21.2), the same with use_dora; `Cannot convert PEFT target(s) ... without also targeting ...` (peft/utils/transformers_weight_conversion.py); `Target modules {'a', 'e', ...} not found in the base model` (0.19.1)",
        fix="--lora_dropout 0; both gate_proj and up_proj; or attention layers only",
        versions="transformers 5 with PEFT 0.19 or newer",
        proof=(_REFUSED,),
    ),
    "PF424": FindingKind(
        name="experts-without-adapter",
        severity="warning",
        proof_kind="silent",
        trigger="with transformers 5, target modules that mean experts (all-linear, or gate_proj and its kind) on Qwen2-MoE, GraniteMoE, PhiMoE or gpt-oss, or on any of the others with PEFT before 0.19",
        effect="the experts are one fused parameter and no linear layers: PEFT adapts attention and whatever else has a name that fits, and says nothing",
        fix="target_parameters names fused experts: mlp.experts.gate_up_proj, mlp.experts.down_proj (PEFT 0.17 or newer)",
        proof=(f"{_EFFECTS}::test_experts_get_adapters_only_where_peft_converts_their_names",),
    ),
    "PF425": FindingKind(
        name="tied-module-saved",
        severity="warning",
        proof_kind="silent",
        trigger="lm_head or the embedding in modules_to_save of a model with tie_word_embeddings",
        effect="the trainable copy is tied to nothing: input and output embeddings differ after the first step. PEFT warns only in Python's own warnings: `Model has tie_word_embeddings=True and a tied layer is part of the adapter`",
        fix="ensure_weight_tying=True in LoraConfig (PEFT 0.18 or newer), or trainable_token_indices",
        proof=(f"{_EFFECTS}::test_a_saved_module_of_a_tied_model_is_a_copy_of_its_own",),
    ),
    "PF426": FindingKind(
        name="adapter-on-fused-head",
        severity="error",
        proof_kind="refusal",
        trigger="lm_head among the target modules under TRL's SFT trainer",
        effect="`Applying a PEFT adapter to lm_head is not supported` (trl/trainer/sft_trainer.py:1069, 1.16)",
        fix="leave it out, or --lora_modules_to_save lm_head",
        versions="TRL 1.15 or newer (1.14 takes it)",
        proof=(_REFUSED,),
    ),
    "PF427": FindingKind(
        name="lora-flags-without-peft",
        severity="warning",
        proof_kind="silent",
        trigger="TRL's lora_r or lora_target_modules without use_peft",
        effect="they are read and have no effect: full fine-tuning",
        fix="--use_peft true",
        proof=(f"{_EFFECTS}::test_lora_flags_alone_make_no_adapter",),
    ),
    "PF428": FindingKind(
        name="adapter-without-gradients",
        severity="error",
        proof_kind="refusal",
        trigger="an adapter under reentrant checkpointing with transformers before 5.0, in a script of somebody's own that calls none of enable_input_require_grads, gradient_checkpointing_enable and PEFT's preparation for 4 or 8 bits",
        effect="no input of a checkpointed layer asks for gradients, so none flow: `element 0 of tensors does not require grad and does not have a grad_fn` (torch), or, with part of the model trainable, silently none in the layers below",
        fix="use_reentrant false in gradient_checkpointing_kwargs, or model.enable_input_require_grads()",
        versions="transformers 4: 5.0 makes the inputs ask (modeling_utils.py:3116, 5.0.0)",
        proof=(_REFUSED,),
    ),
    "PF429": FindingKind(
        name="ready-twice-under-ddp",
        severity="error",
        proof_kind="refusal",
        trigger="DDP, reentrant checkpointing and ddp_find_unused_parameters true",
        effect="`Expected to mark a variable ready only once` at the first backward (torch.nn.parallel, 2.13)",
        fix="use_reentrant false in gradient_checkpointing_kwargs, or no ddp_find_unused_parameters",
        proof=(
            f"{_RANKS}::test_ddp_that_looks_for_unused_parameters_takes_no_reentrant_checkpointing",
        ),
    ),
    "PF447": FindingKind(
        name="adapter-on-wrapped-linears",
        severity="error",
        proof_kind="refusal",
        trigger="q_proj, gate_proj and their kind among the target modules of Gemma 4, which is loaded with its vision tower",
        effect="`Target module Gemma4ClippableLinear(...) is not supported.` (peft/tuners/lora/model.py:559, 0.21.2): the tower's linears have these names, and are inside modules of another class (modeling_gemma4.py, transformers 5.24)",
        fix="all-linear, or a pattern that names language_model, as PEFT's own default does",
        versions="PEFT 0.21 or older",
        proof=(_REFUSED,),
    ),
}
