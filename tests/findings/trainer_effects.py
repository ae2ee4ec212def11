"""Experiments with transformers' Trainer, made under FSDP."""

from __future__ import annotations

from effect_ranks import Results, clean, experiment, export, model_of, refusal


def make_trainer(**arguments: object) -> None:
    from transformers import Trainer, TrainingArguments

    made = TrainingArguments(
        output_dir="none", report_to="none", **{"save_strategy": "no", **arguments}
    )
    Trainer(model=model_of(), args=made, eval_dataset=[])


@experiment
def trainer_under_fsdp() -> Results:
    def run(version: int, state: str, own: str = "false", **arguments: object) -> str:
        clean()
        export(version, state_dict_type=state, activation_checkpointing=own)
        return refusal(lambda: make_trainer(**arguments))

    full, sharded = "FULL_STATE_DICT", "SHARDED_STATE_DICT"
    return {
        "plain": run(2, full),
        "sharded 1": run(1, sharded, save_only_model=True),
        "sharded 2": run(2, sharded, save_only_model=True),
        "two switches": run(2, full, own="true", gradient_checkpointing=True),
        "one switch": run(2, full, own="true"),
        "full": run(2, full, save_only_model=True),
    }
