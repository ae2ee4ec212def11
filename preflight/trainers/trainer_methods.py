"""Methods of transformers' and TRL's trainers by their names: what they are given, and what a class of somebody's own that has one of its own changes."""

from __future__ import annotations

from preflight.own_tables import table_beside
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
BASES = frozenset(table_beside(__file__, "trainer_methods.json")["names"])
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
