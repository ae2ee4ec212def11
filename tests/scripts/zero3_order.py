"""One rank: is a model partitioned that is made before an Accelerator of ZeRO-3, and one that is made after it?"""

import os

os.environ.update(
    ACCELERATE_USE_DEEPSPEED="true",
    ACCELERATE_DEEPSPEED_ZERO_STAGE="3",
    ACCELERATE_MIXED_PRECISION="bf16",
)

from accelerate import Accelerator
from transformers import AutoModelForCausalLM, LlamaConfig

CONFIG = LlamaConfig(vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2)


def is_partitioned() -> bool:
    """Make a model, and tell whether DeepSpeed has divided every parameter of it."""
    model = AutoModelForCausalLM.from_config(CONFIG)
    return all(hasattr(parameter, "ds_id") for parameter in model.parameters())


before = is_partitioned()
accelerator = Accelerator()
print(before, is_partitioned())
