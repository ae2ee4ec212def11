"""Supervised fine-tuning with TRL: full, LoRA or QLoRA, as training.yaml says.

accelerate launch --config_file accelerate.yaml train.py --config training.yaml
"""

from datasets import load_dataset
from trl import (
    ModelConfig,
    ScriptArguments,
    SFTConfig,
    SFTTrainer,
    TrlParser,
    get_peft_config,
    get_quantization_config,
)


def main() -> None:
    parser = TrlParser((ScriptArguments, SFTConfig, ModelConfig))
    data, training, model = parser.parse_args_and_config()
    # Loaded by the trainer, so that the dtype and the attention of training.yaml hold.
    training.model_init_kwargs = {
        "dtype": model.dtype,
        "attn_implementation": model.attn_implementation,
    }
    trainer = SFTTrainer(
        model=model.model_name_or_path,
        args=training,
        train_dataset=load_dataset(data.dataset_name)[data.dataset_train_split],
        quantization_config=get_quantization_config(model),
        peft_config=get_peft_config(model),
    )
    result = trainer.train(resume_from_checkpoint=training.resume_from_checkpoint)
    trainer.accelerator.print(f"trained: loss {result.training_loss:.3f}")
    if trainer.is_fsdp_enabled:
        # Shares of ranks are for going on with; from_pretrained reads a model that rank 0 has collected.
        trainer.accelerator.state.fsdp_plugin.set_state_dict_type("FULL_STATE_DICT")
    trainer.save_model()
    trainer.accelerator.end_training()


if __name__ == "__main__":
    main()
