"""ScriptArguments of its own beside SFTConfig(...), as TRL's old examples do."""
from dataclasses import dataclass, field
from typing import Optional

from peft import LoraConfig
from transformers import AutoModelForCausalLM, HfArgumentParser
from trl import SFTConfig, SFTTrainer


@dataclass
class ScriptArguments:
    model_name: Optional[str] = field(default="facebook/opt-350m", metadata={"help": "the model name"})
    batch_size: Optional[int] = field(default=64, metadata={"help": "the batch size"})
    seq_length: Optional[int] = field(default=512, metadata={"help": "Input sequence length"})
    gradient_accumulation_steps: Optional[int] = field(default=16)
    use_peft: Optional[bool] = field(default=True)
    peft_lora_r: Optional[int] = field(default=64)
    peft_lora_alpha: Optional[int] = field(default=16)
    gradient_checkpointing: Optional[bool] = field(default=False)


parser = HfArgumentParser(ScriptArguments)
script_args = parser.parse_args_into_dataclasses()[0]

training_args = SFTConfig(
    output_dir="out",
    per_device_train_batch_size=script_args.batch_size,
    gradient_accumulation_steps=script_args.gradient_accumulation_steps,
    gradient_checkpointing=script_args.gradient_checkpointing,
    max_length=script_args.seq_length,
)
if script_args.use_peft:
    peft_config = LoraConfig(r=script_args.peft_lora_r, lora_alpha=script_args.peft_lora_alpha, task_type="CAUSAL_LM")
else:
    peft_config = None
model = AutoModelForCausalLM.from_pretrained(script_args.model_name)
SFTTrainer(model=model, args=training_args, peft_config=peft_config).train()
