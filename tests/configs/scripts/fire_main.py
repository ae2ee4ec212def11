"""alpaca-lora's way: python-fire, a global batch and a micro batch."""
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments


def train(
    base_model: str = "huggyllama/llama-7b",
    batch_size: int = 128,
    micro_batch_size: int = 4,
    lora_r: int = 8,
    lora_alpha: int = 16,
    lora_target_modules: list = ["q_proj", "v_proj"],
):
    gradient_accumulation_steps = batch_size // micro_batch_size
    model = AutoModelForCausalLM.from_pretrained(base_model)
    config = LoraConfig(
        r=lora_r, lora_alpha=lora_alpha, target_modules=lora_target_modules, lora_dropout=0.05
    )
    model = get_peft_model(model, config)
    args = TrainingArguments(
        output_dir="out",
        per_device_train_batch_size=micro_batch_size,
        gradient_accumulation_steps=gradient_accumulation_steps,
        fp16=False,
        optim="adamw_torch",
    )
    Trainer(model=model, args=args).train()


if __name__ == "__main__":
    import fire

    fire.Fire(train)
