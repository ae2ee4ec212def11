"""PF3xx: DeepSpeed and its config file."""

from __future__ import annotations

from preflight.findings.kind import FindingKind

_CORPUS = "tests/launchers/test_parity_accelerate.py::test_plan_or_refusal_is_the_one_of_the_installed_accelerate"
_SAID = "tests/launchers/test_parity_accelerate.py::test_what_is_said_about_a_launch_is_what_the_manifest_says"

_EFFECTS = "tests/findings/test_deepspeed_effects.py::"
_CHECKS = "tests/findings/test_engine_checks.py::"

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
            f"{_EFFECTS}test_a_value_that_contradicts_the_trainer_is_refused",
            "tests/launchers/test_read_accelerate.py::test_deepspeed_and_trainer_that_disagree_are_named_with_both_places",
        ),
    ),
    "PF304": FindingKind(
        name="zero-init-flag-without-effect",
        severity="info",
        proof_kind="silent",
        trigger="`zero3_init_flag: false` under ZeRO-3 with transformers",
        effect="transformers partitions at load all the same",
        fix="remove it",
        proof=(_SAID, f"{_EFFECTS}test_zero_init_stays_on_whatever_the_flag_says"),
    ),
    "PF305": FindingKind(
        name="nvme-path-not-handed-over",
        severity="warning",
        proof_kind="silent",
        trigger="an NVMe path in the accelerate config",
        effect="accelerate never hands it to DeepSpeed: its nvme_path stays unset",
        fix="the path in a DeepSpeed file",
        proof=(_SAID, f"{_EFFECTS}test_the_nvme_path_of_an_accelerate_config_never_arrives"),
    ),
    "PF306": FindingKind(
        name="bf16-auto-is-fp32",
        severity="warning",
        proof_kind="silent",
        trigger="`bf16: {enabled: auto}` in the DeepSpeed file and no --bf16 in the arguments of transformers' or TRL's trainer",
        effect="training runs in fp32: twice the memory, and slow",
        fix="--bf16 true",
        proof=(_SAID, f"{_EFFECTS}test_bf16_auto_without_the_flag_is_fp32"),
    ),
    "PF307": FindingKind(
        name="parameter-offload-without-stage-3",
        severity="warning",
        proof_kind="silent",
        trigger="`offload_param` with ZeRO stage 0, 1 or 2",
        effect="only stage 3 uses it (deepspeed/runtime/engine.py, 0.19)",
        fix="stage 3, or remove it",
        proof=(_CORPUS, f"{_EFFECTS}test_parameters_stay_where_they_are_below_stage_3"),
    ),
    "PF308": FindingKind(
        name="auto-that-nobody-fills",
        severity="warning",
        proof_kind="silent",
        trigger="`auto` for a key of zero_optimization that neither transformers nor accelerate fills",
        effect="DeepSpeed drops it and uses its own default (deepspeed/runtime/config_utils.py:57, 0.19.8)",
        fix="a number",
        proof=(_CORPUS, f"{_EFFECTS}test_an_auto_that_is_left_is_the_default"),
    ),
    "PF309": FindingKind(
        name="unknown-deepspeed-key",
        severity="error",
        proof_kind="refusal",
        trigger="a key that DeepSpeed does not know, or has removed",
        effect="inside a section DeepSpeed's model refuses it in every worker; at the top level it is ignored",
        fix="the spelling that DeepSpeed knows, or remove it",
        proof=(
            f"{_EFFECTS}test_unknown_and_removed_keys_are_refused",
            "tests/launchers/test_accelerate_tables.py::test_removed_keys_are_those_of_the_installed_deepspeed",
        ),
    ),
    "PF310": FindingKind(
        name="batch-sizes-disagree",
        severity="error",
        proof_kind="refusal",
        trigger="`train_batch_size` that is not micro batch * accumulation steps * ranks, in a DeepSpeed file that no Trainer fills",
        effect="every worker stops: `Check batch related parameters. train_batch_size is not equal to micro_batch_per_gpu * gradient_acc_step * world_size` (deepspeed/runtime/config.py:602, 0.19.8)",
        fix="remove train_batch_size: the other two and the ranks say it",
        proof=(
            f"{_EFFECTS}test_batch_sizes_must_multiply",
            f"{_CHECKS}test_batch_sizes_of_a_deepspeed_file_are_multiplied",
        ),
    ),
    "PF311": FindingKind(
        name="auto-handed-to-deepspeed",
        severity="error",
        proof_kind="refusal",
        trigger="`auto` for a batch size or the stage in the file of a script that calls deepspeed.initialize itself, and nothing in the script fills it",
        effect='a batch size of `auto` stops every worker with a TypeError (deepspeed/runtime/config.py, 0.19.8); `"stage": "auto"` is dropped, and nothing is sharded',
        fix="numbers",
        proof=(
            f"{_EFFECTS}test_deepspeed_itself_knows_no_auto",
            f"{_CHECKS}test_autos_of_a_script_with_its_own_engine_are_named",
        ),
    ),
    "PF312": FindingKind(
        name="two-half-precisions",
        severity="error",
        proof_kind="refusal",
        trigger="fp16 and bf16 both enabled in a DeepSpeed config",
        effect="every worker stops: `bfloat16 and fp16 modes cannot be simultaneously enabled` (deepspeed/runtime/config.py, 0.19.8)",
        fix="one of them",
        proof=(f"{_EFFECTS}test_one_half_precision_is_enough", _CORPUS),
    ),
    "PF313": FindingKind(
        name="zero3-with-device-map",
        severity="error",
        proof_kind="refusal",
        trigger="under ZeRO-3 a `device_map` that is surely not None in the script's from_pretrained, for a quantized base too, after the trainer's arguments or an Accelerator are made: before, transformers does not know of ZeRO-3; a warning where the order is not known",
        effect="every worker stops: `DeepSpeed Zero-3 is not compatible with passing a device_map.` (transformers/integrations/accelerate.py:137, 5.24)",
        fix="no device_map",
        versions="transformers below 5 refused low_cpu_mem_usage=True as well",
        proof=(
            f"{_EFFECTS}test_zero3_refuses_a_device_map",
            f"{_CHECKS}test_a_device_map_under_zero3_is_named",
            f"{_CHECKS}test_a_device_map_is_refused_once_transformers_knows_of_zero3",
        ),
    ),
    "PF314": FindingKind(
        name="partial-offload-without-stage-3",
        severity="error",
        proof_kind="refusal",
        trigger="`offload_optimizer.ratio` below 1 with ZeRO stage 0, 1 or 2",
        effect="every worker stops: `Partial offloading only supported for ZeRO Stage 3.` (deepspeed/runtime/zero/config.py:399, 0.19.8)",
        fix="ratio 1.0, or stage 3",
        proof=(
            f"{_EFFECTS}test_a_part_is_offloaded_at_stage_3_only",
            f"{_CHECKS}test_readers_name_what_deepspeed_refuses",
        ),
    ),
    "PF316": FindingKind(
        name="weights-not-gathered-on-save",
        severity="warning",
        proof_kind="silent",
        trigger="ZeRO-3 without `stage3_gather_16bit_weights_on_model_save` (`zero3_save_16bit_model` in an accelerate config), and a launch that saves a whole model",
        effect="accelerate's get_state_dict stops with `Cannot get 16bit model weights`; transformers' Trainer catches that and writes shards of the engine in the place of model.safetensors (accelerate/accelerator.py, 1.15)",
        fix="stage3_gather_16bit_weights_on_model_save: true, at the cost of a whole copy on rank 0; or zero_to_fp32.py afterwards",
        proof=(
            f"{_EFFECTS}test_weights_that_are_not_gathered_are_not_saved",
            f"{_CHECKS}test_saving_is_held_against_the_engine",
        ),
    ),
    "PF317": FindingKind(
        name="optimizer-of-the-file-wins",
        severity="warning",
        proof_kind="silent",
        trigger="an `optimizer` block in the DeepSpeed file and `--optim` among the trainer's arguments",
        effect="the file's optimizer trains, `--optim` is not read (deepspeed_optim_sched in transformers/integrations/deepspeed.py:577, 5.24)",
        fix="one of them",
        proof=(
            f"{_EFFECTS}test_an_optimizer_in_the_file_beats_the_flag",
            f"{_CHECKS}test_optimizers_are_held_against_the_deepspeed_file",
        ),
    ),
    "PF318": FindingKind(
        name="fp32-accumulation-without-zero",
        severity="error",
        proof_kind="refusal",
        trigger="ZeRO stage 0, bf16, and `data_types.grad_accum_dtype: fp32`",
        effect="every worker stops: `unsupported mix of model_dtype=torch.bfloat16 and grad_accum_dtype=torch.float32` (deepspeed/runtime/engine.py:2323, 0.19.8)",
        fix="stage 1",
        proof=(
            f"{_EFFECTS}test_stage_0_accumulates_in_the_dtype_of_the_weights",
            f"{_CHECKS}test_optimizers_are_held_against_the_deepspeed_file",
        ),
    ),
    "PF319": FindingKind(
        name="offloaded-adamw-is-adam",
        severity="warning",
        proof_kind="silent",
        trigger="an 8-bit AdamW of bitsandbytes, optimizer offload, and weight decay above zero",
        effect="accelerate replaces it by DeepSpeedCPUAdam with adamw_mode=False (map_pytorch_optim_to_deepspeed in accelerate/utils/deepspeed.py:29, 1.15): an L2 penalty in the place of AdamW's decay, and fp32 states",
        fix="--optim adamw_torch",
        proof=(
            f"{_EFFECTS}test_offload_takes_8_bit_adamw_for_adam",
            f"{_CHECKS}test_optimizers_are_held_against_the_deepspeed_file",
        ),
    ),
}
