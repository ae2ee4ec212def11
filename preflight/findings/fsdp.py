"""PF2xx: FSDP1 and FSDP2."""

from __future__ import annotations

from preflight.findings.kind import FindingKind

_CORPUS = "tests/launchers/test_parity_accelerate.py::test_plan_or_refusal_is_the_one_of_the_installed_accelerate"
_SAID = "tests/launchers/test_parity_accelerate.py::test_what_is_said_about_a_launch_is_what_the_manifest_says"

_EFFECTS = "tests/findings/test_fsdp_effects.py::"

KINDS: dict[str, FindingKind] = {
    "PF201": FindingKind(
        name="setting-of-the-other-fsdp",
        severity="warning",
        proof_kind="silent",
        trigger="`fsdp_sharding_strategy` under FSDP2, `fsdp_reshard_after_forward` under FSDP1, and the like",
        effect="it is read and has no effect: HYBRID_SHARD and NO_SHARD under FSDP2 shard over all ranks, `fsdp_reshard_after_forward: false` under FSDP1 still frees every unit (accelerate/utils/dataclasses.py, 1.15)",
        fix="the key of this version: fsdp_reshard_after_forward under FSDP2, fsdp_sharding_strategy under FSDP1",
        proof=(_CORPUS, f"{_EFFECTS}test_a_setting_of_the_other_version_changes_nothing"),
    ),
    "PF202": FindingKind(
        name="no-wrap-policy",
        severity="warning",
        proof_kind="silent",
        trigger="FSDP without a wrap policy, or with one that wraps no layer: SIZE_BASED_WRAP with 0, or with more parameters than a layer has",
        effect="the whole model is one unit: all its parameters are gathered at once",
        fix="fsdp_auto_wrap_policy: TRANSFORMER_BASED_WRAP",
        proof=(_SAID, f"{_EFFECTS}test_without_a_policy_the_model_is_one_unit"),
    ),
    "PF203": FindingKind(
        name="two-checkpointing-switches",
        severity="error",
        proof_kind="refusal",
        trigger="FSDP's own activation checkpointing and the trainer's are both on",
        effect="transformers refuses in every worker: the two cannot both be set (transformers/trainer.py, 5.24)",
        fix="one of them; the trainer's keeps the random state",
        proof=(
            "tests/launchers/test_read_accelerate.py::test_one_checkpointing_switch_is_enough",
            f"{_EFFECTS}test_transformers_refuses_two_checkpointing_switches",
        ),
    ),
    "PF204": FindingKind(
        name="dropout-under-fsdp2-checkpointing",
        severity="error",
        proof_kind="silent",
        trigger="`fsdp_version: 2`, `fsdp_activation_checkpointing: true`, and any dropout above zero in the wrapped layers (attention_dropout and the like, lora_dropout)",
        effect="accelerate wraps layers with preserve_rng_state=False (accelerate/utils/fsdp_utils.py:720, 1.15.0): the recomputation draws other dropout masks than the forward did, gradients are wrong, and nothing says so",
        fix="fsdp_activation_checkpointing: false and the trainer's own --gradient_checkpointing true, which restores the random state and saves as much",
        proof=(
            f"{_EFFECTS}test_fsdp2_checkpointing_with_dropout_computes_other_gradients",
            "tests/hooks/test_checks.py::test_dropout_under_fsdp2_checkpointing_is_an_error",
        ),
    ),
    "PF205": FindingKind(
        name="trainer-flags-replace-fsdp",
        severity="warning",
        proof_kind="silent",
        trigger="`--fsdp` among the trainer's arguments of a launch whose launcher has FSDP settings",
        effect="the trainer's flags replace the launcher's settings; what they do not name comes from the trainer's own defaults",
        fix="keep the settings in one place",
        proof=(_CORPUS, _SAID),
    ),
    "PF206": FindingKind(
        name="wrap-class-not-in-model",
        severity="error",
        proof_kind="refusal",
        trigger="`fsdp_transformer_layer_cls_to_wrap` names the layer class of another architecture, or the model's own in other letters",
        effect="every worker stops: `Could not find the transformer layer class X in the model.` (accelerate/utils/fsdp_utils.py:953, 1.15)",
        fix="the class that the finding names, or none: the model's own list is then taken",
        proof=(
            f"{_EFFECTS}test_a_class_that_the_model_lacks_is_refused",
            "tests/findings/test_engine_checks.py::test_a_class_of_another_architecture_is_named",
        ),
    ),
    "PF207": FindingKind(
        name="checkpointing-without-wrap-policy",
        severity="error",
        proof_kind="refusal",
        trigger="`fsdp_version: 2` and `fsdp_activation_checkpointing: true` without a wrap policy",
        effect="every worker stops: `TypeError: 'NoneType' object is not callable` (fsdp2_apply_ac in accelerate/utils/fsdp_utils.py:719, 1.15); FSDP1 goes on",
        fix="fsdp_auto_wrap_policy: TRANSFORMER_BASED_WRAP",
        proof=(
            f"{_EFFECTS}test_fsdp2_checkpointing_needs_a_policy",
            "tests/findings/test_engine_checks.py::test_readers_name_what_the_plugin_refuses",
        ),
    ),
    "PF208": FindingKind(
        name="reshard-word-under-fsdp2",
        severity="error",
        proof_kind="refusal",
        trigger="`fsdp_version: 2` and `fsdp_reshard_after_forward: FULL_SHARD` or another of FSDP1's words",
        effect="every worker stops: `ValueError: invalid truth value full_shard` (accelerate/utils/dataclasses.py, 1.15)",
        fix="fsdp_reshard_after_forward: true for FULL_SHARD, false for SHARD_GRAD_OP",
        proof=(f"{_EFFECTS}test_the_plugin_refuses_words_of_fsdp1", _CORPUS),
    ),
    "PF209": FindingKind(
        name="local-state-dict-under-fsdp2",
        severity="error",
        proof_kind="refusal",
        trigger="`fsdp_version: 2` and `fsdp_state_dict_type: LOCAL_STATE_DICT`",
        effect="every worker stops: `FSDP2 does not support LOCAL_STATE_DICT` (accelerate/utils/dataclasses.py:2069, 1.15); FSDP1 takes it",
        fix="fsdp_state_dict_type: SHARDED_STATE_DICT",
        proof=(f"{_EFFECTS}test_the_plugin_refuses_words_of_fsdp1", _CORPUS),
    ),
    "PF210": FindingKind(
        name="ram-efficient-loading-without-sync",
        severity="error",
        proof_kind="refusal",
        trigger="`fsdp_cpu_ram_efficient_loading: true` and `fsdp_sync_module_states: false` in an accelerate config",
        effect="the launcher stops: `When using --fsdp_cpu_ram_efficient_loading set --fsdp_sync_module_states to True` (accelerate/utils/launch.py:307, 1.15): without it all ranks but the first would train on empty weights",
        fix="fsdp_sync_module_states: true",
        proof=(
            "tests/findings/test_engine_checks.py::test_the_launcher_refuses_efficient_loading_without_sync",
            _CORPUS,
        ),
    ),
    "PF211": FindingKind(
        name="wrap-by-size-under-fsdp2",
        severity="error",
        proof_kind="refusal",
        trigger="`fsdp_version: 2`, SIZE_BASED_WRAP, and layers that together have more parameters than `fsdp_min_num_params`",
        effect="every worker stops: `fully_shard does not support containers that do not implement forward: ModuleList` (torch/distributed/fsdp/_fully_shard/_fsdp_init.py:45, 2.13): the list of the layers is above the threshold too",
        fix="fsdp_auto_wrap_policy: TRANSFORMER_BASED_WRAP",
        proof=(
            f"{_EFFECTS}test_fsdp2_refuses_to_wrap_by_size",
            "tests/findings/test_engine_checks.py::test_wrapping_by_size_is_held_against_the_layers",
        ),
    ),
    "PF214": FindingKind(
        name="packed-bits-are-cast",
        severity="error",
        proof_kind="silent",
        trigger="4-bit weights with a floating storage dtype that is not the dtype of mixed precision, under FSDP",
        effect="FSDP casts what it gathers to the compute dtype; the storage dtype is only a name for packed bits, so they change: the base computes with other weights, and nothing says so",
        fix="bnb_4bit_quant_storage in the dtype of mixed precision",
        proof=(
            f"{_EFFECTS}test_packed_bits_change_where_the_engine_casts_them",
            "tests/findings/test_engine_checks.py::test_packed_weights_are_held_against_the_compute_dtype",
        ),
    ),
    "PF215": FindingKind(
        name="two-dtypes-in-a-flat-parameter",
        severity="error",
        proof_kind="refusal",
        trigger="FSDP1 and fp32 adapters on a 16-bit base, in a loop without PEFT's wrap policy",
        effect="every worker stops: `Must flatten tensors with uniform dtype but got torch.bfloat16 and torch.float32` (torch/distributed/fsdp/_flat_param.py:814, 2.13); transformers' Trainer gives adapters units of their own",
        fix="one dtype, or `accelerator.state.fsdp_plugin.auto_wrap_policy = peft.utils.other.fsdp_auto_wrap_policy(model)`, or FSDP2",
        proof=(
            f"{_EFFECTS}test_fsdp1_flattens_one_dtype",
            "tests/findings/test_engine_checks.py::test_adapters_in_a_flat_parameter_are_named",
        ),
    ),
    "PF216": FindingKind(
        name="frozen-and-trained-in-a-flat-parameter",
        severity="error",
        proof_kind="refusal",
        trigger="FSDP1 with `fsdp_use_orig_params: false` and adapters in a loop without PEFT's wrap policy",
        effect="every worker stops: `Must flatten tensors with uniform requires_grad when use_orig_params=False` (torch/distributed/fsdp/_flat_param.py:823, 2.13)",
        fix="fsdp_use_orig_params: true, or fsdp_version: 2",
        proof=(
            f"{_EFFECTS}test_fsdp1_flattens_what_trains_apart",
            "tests/findings/test_engine_checks.py::test_adapters_in_a_flat_parameter_are_named",
        ),
    ),
    "PF217": FindingKind(
        name="bitsandbytes-optimizer-under-fsdp2",
        severity="error",
        proof_kind="refusal",
        trigger="an optimizer of bitsandbytes (adamw_bnb_8bit, paged_adamw_8bit, lion_8bit, ...) under FSDP2",
        effect="the first step stops: `got mixed torch.Tensor and DTensor`, or for 32-bit states `does not have a sharding strategy registered` (bitsandbytes 0.50.2, torch 2.13)",
        fix="--optim adamw_torch_fused, or FSDP1, which steps flat parameters",
        proof=(
            f"{_EFFECTS}test_bitsandbytes_steps_fsdp1_only",
            "tests/findings/test_engine_checks.py::test_optimizer_and_accumulation_are_held_against_the_version",
        ),
    ),
    "PF218": FindingKind(
        name="offload-drops-gradients",
        severity="error",
        proof_kind="silent",
        trigger="FSDP1, CPU offload, gradient accumulation and sync_each_batch",
        effect="each micro step's gradients replace those of the steps before it (a TODO in prepare_gradient_for_backward, torch/distributed/fsdp/_flat_param.py, 2.13): training is wrong, and nothing says so",
        fix="sync_each_batch false, or FSDP2, which adds them up",
        proof=(
            f"{_EFFECTS}test_offload_under_fsdp1_drops_gradients_that_synchronise",
            "tests/findings/test_engine_checks.py::test_optimizer_and_accumulation_are_held_against_the_version",
        ),
    ),
    "PF220": FindingKind(
        name="only-the-model-in-shards",
        severity="error",
        proof_kind="refusal",
        trigger="`--save_only_model` with `fsdp_state_dict_type: SHARDED_STATE_DICT`, which is FSDP2's default under accelerate",
        effect="transformers stops when the trainer is made: `save_only_model option is not compatible with FSDP state dict type 'SHARDED_STATE_DICT'` (transformers/trainer.py:912, 5.24)",
        fix="fsdp_state_dict_type: FULL_STATE_DICT",
        proof=(
            f"{_EFFECTS}test_transformers_refuses_these_checkpoints",
            "tests/findings/test_engine_checks.py::test_saving_is_held_against_the_engine",
        ),
    ),
    "PF221": FindingKind(
        name="gradients-kept-unsharded",
        severity="info",
        proof_kind="silent",
        trigger="FSDP with gradient accumulation and without sync_each_batch",
        effect="micro steps that do not synchronise keep whole gradients, unsharded, on every rank until the last one; the estimate counts them",
        fix='accelerator_config {"gradient_accumulation_kwargs": {"sync_each_batch": true}}: less memory, a reduction per micro step',
        proof=(
            f"{_EFFECTS}test_gradients_wait_unsharded",
            "tests/findings/test_engine_checks.py::test_optimizer_and_accumulation_are_held_against_the_version",
        ),
    ),
    "PF222": FindingKind(
        name="fp16-loss-under-fsdp2",
        severity="info",
        proof_kind="silent",
        trigger="fp16 mixed precision under FSDP2",
        effect="accelerate's policy casts the output, the loss with it, to fp16; the scaler's first scale, 65536, is beyond fp16, so the first step is skipped, and each that the scaler grows to it again",
        fix="bf16 where the device has it; FSDP1 returns the loss in fp32",
        proof=(
            f"{_EFFECTS}test_fsdp2_skips_the_first_fp16_step",
            "tests/findings/test_engine_checks.py::test_optimizer_and_accumulation_are_held_against_the_version",
        ),
    ),
    "PF223": FindingKind(
        name="adapter-saved-empty",
        severity="error",
        proof_kind="silent",
        trigger="a PEFT adapter with PEFT 0.21 or newer, under FSDP1, or under FSDP2 with `fsdp_activation_checkpointing: true`",
        effect="PEFT looks for the adapter under the names of wrapped modules, FSDP collects it under those of unwrapped ones (peft/tuners/tuners_utils.py, 0.21.2): adapter_model.safetensors and the checkpoints hold no tensor, where the state dict type was set to FULL_STATE_DICT too",
        fix="fsdp_version: 2, and the trainer's own --gradient_checkpointing true in place of FSDP's; or peft<0.21",
        proof=(
            f"{_EFFECTS}test_peft_finds_no_adapter_in_wrapped_layers",
            f"{_EFFECTS}test_the_trainer_leaves_a_file_without_an_adapter",
            "tests/hooks/test_checks.py::test_an_adapter_that_is_saved_empty_is_an_error",
        ),
    ),
    "PF224": FindingKind(
        name="words-in-two-groups",
        severity="error",
        proof_kind="refusal",
        trigger="T5, mT5, UMT5 or Pegasus of transformers 5, BART or mBART since 4.41, under FSDP2 with accelerate 1.14 and torch 2.13 or newer",
        effect="the first forward stops in every worker: `Parameter 'shared.weight' is shared with a parameter already managed by another FSDP group` (torch/distributed/fsdp/_fully_shard/_fsdp_state.py:217, 2.13): accelerate divides the words of get_input_embeddings() apart from the root, in which those of both stacks are",
        fix="fsdp_version: 1, under which all of them are one unit",
        proof=(
            f"{_EFFECTS}test_shared_words_are_in_two_groups",
            "tests/findings/test_engine_checks.py::test_shared_words_are_held_against_releases",
        ),
    ),
}
