"""Methods of transformers' and TRL's trainers by their names: what they are given, and what a class of somebody's own that has one of its own changes."""

from __future__ import annotations

from preflight.unpriced_names import OWN_LOSS

HARMLESS = frozenset(
    {
        "tokenize_row", "build_tokenized_answer", "process_row", "_prepare_dataset", "log", "store_metrics",
        "create_model_card", "push_to_hub", "save_model", "_save", "_save_checkpoint", "_get_train_sampler",
        "_get_eval_sampler", "create_scheduler", "_set_signature_columns_if_needed", "log_metrics", "metrics_format", "save_metrics",
        "save_state",
    }
)  # fmt: skip
"""Methods of TRL's trainers that run before training, say the order of rows, or write what is there already (trl/trainer,
0.8 to 1.16; transformers/trainer.py _get_train_sampler, which chooses which rows and not how many, 4.28 to 5.24)."""
PER_ROW = frozenset(
    {"dpo_loss", "kto_loss", "bco_loss", "cpo_loss", "odds_ratio_loss", "_calculate_rewards"}
)
"""Methods that are given log-probabilities and means of logits with one number for a row, or texts (trl/trainer/*_trainer.py
and trl/experimental, 0.7.11 to 1.16.0)."""
BASES = frozenset(
    {
        "_activate_neftune", "_add_sm_patterns_to_gitignore", "_align_special_tokens", "_build_accelerator_args",
        "_calculate_rewards_from_functions", "_clip_grad_norm", "_compute_judge", "_compute_kl_logps",
        "_compute_logprobs", "_compute_loss", "_compute_loss_liger", "_compute_losses", "_compute_rewards",
        "_create_model_from_path", "_deactivate_neftune", "_defer_fsdp_gradient_reduction", "_determine_best_metric",
        "_early_stop", "_enable_gradient_checkpointing", "_evaluate", "_filter_kwargs", "_finalize_training",
        "_finish_current_push", "_fix_param_name_to_vllm", "_forward", "_fsdp_qlora_plugin_updates",
        "_gather_and_numpify", "_generate", "_generate_and_score_completions", "_generate_batched",
        "_generate_completions", "_generate_single_turn", "_generate_vllm", "_generate_vllm_colocate",
        "_generate_vllm_server", "_get_chosen_prob", "_get_collator_with_removed_columns", "_get_dataloader",
        "_get_grad_norm", "_get_last_hidden_state", "_get_learning_rate", "_get_num_items_in_batch", "_get_output_dir",
        "_get_per_token_logps", "_get_per_token_logps_and_entropies", "_get_prompt_embeddings",
        "_get_sample_prompt_embeddings", "_get_tool_suffix_ids", "_get_udm_weight", "_has_mixed_mesh_grads",
        "_hp_search_setup", "_init_training_state", "_inner_training_loop", "_is_attention_mask_causal",
        "_issue_warnings_after_load", "_kl_penalty", "_load_best_model", "_load_callback_state",
        "_load_from_checkpoint", "_load_optimizer_and_scheduler", "_load_rng_state", "_load_scaler",
        "_log_completion_extra", "_log_metric", "_log_statistics", "_maybe_log_save_evaluate", "_mixed_mesh_grad_norm",
        "_move_model_to_device", "_move_model_to_vllm", "_move_model_to_vllm_inner", "_nested_gather",
        "_pad_tensors_to_max_len", "_precompute_ref_logps", "_prepare_context_parallel_inputs", "_prepare_deepspeed",
        "_prepare_for_training", "_prepare_gradient_checkpointing", "_prepare_input", "_prepare_inputs",
        "_prepare_model_for_kbit_training", "_prepare_non_packed_dataloader", "_prepare_packed_dataloader",
        "_prepare_peft_model", "_process_completions", "_push_from_checkpoint", "_reject_skip_prepare_without_labels",
        "_remove_unused_columns", "_report_to_hp_search", "_rotate_checkpoints", "_run_epoch",
        "_save_optimizer_and_scheduler", "_save_pretrained", "_save_rng_state", "_save_scaler", "_save_tpu",
        "_send_telemetry", "_shift_right", "_show_tokens", "_sorted_checkpoints", "_step_safety_checker",
        "_sync_fsdp1_params_to_vllm", "_sync_fsdp2_params_to_vllm", "_sync_fsdp_params_to_vllm",
        "_sync_replicated_trainable_parameters", "_tokenize_prompts", "_tool_call_loop", "_track_num_input_tokens",
        "_trl_activate_neftune", "_tune_save_checkpoint", "_update_auto_batch_size", "_validate_args",
        "_vectorize_prompt", "_wrap_model", "add_callback", "alpha", "autocast_smart_context_manager",
        "batched_forward_pass", "beta", "call_model_init", "compare_trainer_and_checkpoint_args", "compute_advantages",
        "compute_liger_loss", "compute_loss", "compute_loss_context_manager", "compute_ref_log_probs",
        "compute_reference_log_probs", "compute_rewards", "concatenated_forward", "concatenated_inputs",
        "create_accelerator_and_postprocess", "create_optimizer", "create_optimizer_and_scheduler", "end", "evaluate",
        "evaluation_loop", "floating_point_ops", "forward", "gather_stats", "generalized_jsd_loss", "generate",
        "generate_completions", "generate_from_model", "generate_from_model_and_ref", "generate_on_policy_outputs",
        "get_batch_logps", "get_batch_loss_metrics", "get_batch_samples", "get_cp_size", "get_decay_parameter_names",
        "get_eval_dataloader", "get_gamma_weights", "get_high_entropy_mask", "get_learning_rates",
        "get_num_trainable_parameters", "get_off_policy_mask", "get_optimizer_cls_and_kwargs", "get_optimizer_group",
        "get_sp_size", "get_test_dataloader", "get_total_train_batch_size", "get_tp_size", "get_train_dataloader",
        "hyperparameter_search", "init_hf_repo", "ipex_optimize_model", "is_local_process_zero",
        "is_world_process_zero", "load_generation_config", "log_stats", "loss", "match_underlying_distribution",
        "mixture_coef", "null_ref_context", "num_examples", "num_tokens", "padding_value", "pop_callback", "predict",
        "prediction_loop", "prediction_step", "prepare_dataloader", "prepare_model_inputs", "process_vision_row",
        "propagate_args_to_deepspeed", "record_step_stats", "remove_callback", "set_initial_training_values", "step",
        "store_flos", "tokenizer", "torch_jit_model_eval", "train", "train_minibatch", "training_step",
        "visualize_samples",
    }
)  # fmt: skip
"""The other methods of transformers' trainer and of TRL's (transformers 4.36 to 5.24, TRL 0.7.11 to 1.16.0): a method with one
of these names is no helper of a class's own."""
OF_LOSS = frozenset(
    {"compute_loss", "get_batch_loss_metrics", "get_batch_metrics", "concatenated_forward", "get_batch_logps", "prediction_step"}
)  # fmt: skip
"""Methods that only a trainer's loss runs, with the function that takes a step of an evaluation."""
OF_ROWS = frozenset({"_prepare_inputs", "training_step", "_inner_training_loop"})
"""Methods that say which rows a model gets, and how often: a loss of a class's own beside them is looked for by its calls."""
KINDS = {
    **dict.fromkeys(("_generate_and_score_completions", "_generate", "generate", "_generate_completions"), "generation of its own"),
    **dict.fromkeys(("training_step", "_inner_training_loop", "train"), "a step of its own"),
    **dict.fromkeys(("concatenated_forward", "get_batch_logps", "_get_per_token_logps", "_get_per_token_logps_and_entropies"), "log-probabilities of its own"),
    **dict.fromkeys(("compute_loss", "_compute_loss", "get_batch_loss_metrics", "get_batch_metrics"), OWN_LOSS),
}  # fmt: skip
"""Method -> what a class has that has one of its own, where more is known than its name."""
