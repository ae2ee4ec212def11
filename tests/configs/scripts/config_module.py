"""The arguments stand in a file beside the script."""
from arguments_beside import Arguments, read
from transformers import AutoModelForCausalLM
from trl import SFTConfig, SFTTrainer

args = read()
config = SFTConfig("out", max_length=args.length, per_device_train_batch_size=args.batch)
model = AutoModelForCausalLM.from_pretrained(args.model)
SFTTrainer(model=model, args=config).train()
