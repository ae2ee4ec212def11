"""TRL's own pattern: TrlParser with ModelConfig, get_peft_config, get_quantization_config."""
from transformers import AutoModelForCausalLM
from trl import (
    ModelConfig,
    ScriptArguments,
    SFTConfig,
    SFTTrainer,
    TrlParser,
    get_peft_config,
)


def main(script_args, training_args, model_args):
    model = AutoModelForCausalLM.from_pretrained(model_args.model_name_or_path)
    SFTTrainer(model=model, args=training_args, peft_config=get_peft_config(model_args)).train()


if __name__ == "__main__":
    parser = TrlParser((ScriptArguments, SFTConfig, ModelConfig))
    main(*parser.parse_args_and_config())
