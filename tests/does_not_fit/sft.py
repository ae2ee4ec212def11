"""Fine-tunes on conversations with TRL."""

from datasets import load_dataset
from trl import ModelConfig, ScriptArguments, SFTConfig, SFTTrainer, TrlParser, get_peft_config

script, training, model = TrlParser((ScriptArguments, SFTConfig, ModelConfig)).parse_args_and_config()
dataset = load_dataset(script.dataset_name)
SFTTrainer(
    model=model.model_name_or_path,
    args=training,
    train_dataset=dataset[script.dataset_train_split],
    peft_config=get_peft_config(model),
).train()
