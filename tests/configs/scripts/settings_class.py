"""Settings as attributes of a class, some of them changed by an instance."""
from transformers import AutoModelForCausalLM
from trl import SFTConfig, SFTTrainer


class CFG:
    model = "gpt2"
    length = 768
    batch: int = 6
    optim = "adafactor"
    accumulate = 4


class Changed(CFG):
    accumulate = 2

    def __init__(self):
        self.batch = self.batch // 2


other = Changed()
CFG.optim = "adamw_torch"
config = SFTConfig(
    "out",
    max_length=CFG.length,
    per_device_train_batch_size=other.batch,
    gradient_accumulation_steps=CFG.accumulate,
    optim=CFG.optim,
)
model = AutoModelForCausalLM.from_pretrained(CFG.model)
SFTTrainer(model=model, args=config).train()
