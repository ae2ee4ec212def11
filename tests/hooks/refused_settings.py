"""Settings that a library refuses, each as words of a launch and as the library is given it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import tiny_training as lab
import torch
from peft import LoraConfig, get_peft_model
from torch.utils.checkpoint import checkpoint
from transformers import AutoConfig, AutoModelForCausalLM, Trainer, TrainingArguments
from transformers.optimization import Adafactor
from transformers.trainer_optimizer import _setup_low_rank_optimizer
from trl import DPOConfig, DPOTrainer, GRPOConfig, GRPOTrainer, ModelConfig, SFTConfig, SFTTrainer

QV = ("q_proj", "v_proj")


class Case(NamedTuple):
    """One setting: as words of a launch, and as the library is given it."""

    id: str
    words: str
    refused: Callable[[], object]
    says: str
    config: dict | None = None
    changes: dict | None = None
    """Plan fields and versions that no flag of this machine's libraries gives."""
    severity: str = "error"


def arguments(kind=TrainingArguments, **values):
    common = {"output_dir": "/nonexistent", "report_to": [], "use_cpu": True}
    if kind is not TrainingArguments:
        common["bf16"] = False
    return kind(**{**common, **values})


def sft(peft=None, **values):
    return SFTTrainer(
        model=lab.tiny(),
        args=arguments(SFTConfig, **values),
        train_dataset=lab.texts(),
        processing_class=lab.tokenizer(),
        peft_config=peft,
    )


def dpo(peft=None, **values):
    return DPOTrainer(
        model=lab.tiny(),
        args=arguments(DPOConfig, **values),
        train_dataset=lab.preferences(),
        processing_class=lab.tokenizer(),
        peft_config=peft,
    )


def grpo(peft=None, **values):
    few = {"per_device_train_batch_size": 2, "num_generations": 2}
    return GRPOTrainer(
        model=lab.tiny(),
        reward_funcs=lambda completions, **_: [0.0] * len(completions),
        args=arguments(GRPOConfig, **few, **values),
        train_dataset=lab.preferences().select_columns(["prompt"]),
        processing_class=lab.tokenizer(),
        peft_config=peft,
    )


def adapted(model_type="llama", changes=None, **lora):
    return get_peft_model(lab.tiny(model_type, **(changes or {})), LoraConfig(**lora))


GEMMA4 = {
    "model_type": "gemma4",
    "text_config": {
        "model_type": "gemma4_text", "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "vocab_size": 320,
        "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 32, "global_head_dim": 32,
        "num_global_key_value_heads": 1, "attention_k_eq_v": True, "hidden_size_per_layer_input": 0,
        "layer_types": ["sliding_attention", "full_attention"], "num_kv_shared_layers": 0,
    },
    "vision_config": {
        "model_type": "gemma4_vision", "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1,
        "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 16, "position_embedding_size": 16,
    },
}  # fmt: skip


def on_tower(targets):
    values = dict(GEMMA4)
    config = AutoConfig.for_model(values.pop("model_type"), **values)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    return get_peft_model(model, LoraConfig(target_modules=targets))


def unscaled():
    model = lab.tiny().half()
    optimizer, scaler = torch.optim.AdamW(model.parameters()), torch.amp.GradScaler("cpu")
    scaler.scale(model(**lab.batch()).loss).backward()
    scaler.unscale_(optimizer)


def without_input_gradients():
    model = adapted(target_modules=list(QV))
    reentrant = partial(checkpoint, use_reentrant=True)
    # As transformers 4 turned checkpointing on.
    model.get_base_model()._set_gradient_checkpointing(True, reentrant)
    model.train()
    model(**lab.batch()).loss.backward()


def low_rank(name, made=torch.optim.AdamW, **values):
    options = {"lr": 1e-3}
    return _setup_low_rank_optimizer(
        arguments(optim=name, **values), lab.tiny(), name, {name: made}, {}, options
    )


def trained(**values):
    args = arguments(max_steps=1, save_strategy="no", **values)
    return Trainer(model=lab.tiny(), args=args, train_dataset=lab.rows()).train()


def flash():
    config = lab.tiny().config
    config._attn_implementation = "flash_attention_2"
    return AutoModelForCausalLM.from_config(config)


CASES = [
    Case("PF401", "train.py --bf16 true", lambda: arguments(bf16=True, use_cpu=False),
         "Your setup doesn't support bf16/gpu", severity="warning"),
    Case("PF402", "train.py --fp16 true", unscaled, "Attempting to unscale FP16 gradients",
         changes={"load_dtype": "fp16"}),
    Case("PF405", "trl --use_peft true", lambda: adapted("phi3"),
         "Please specify `target_modules`", {"model_type": "phi3"}),
    Case("PF407", "train.py --bf16 true --fp16 true", lambda: arguments(bf16=True, fp16=True),
         "At most one of fp16 and bf16 can be True"),
    Case("PF415", "trl --load_in_4bit true --load_in_8bit true",
         lambda: ModelConfig(load_in_4bit=True, load_in_8bit=True),
         "can't use 8 bit and 4 bit precision at the same time"),
    Case("PF421", "trl --use_peft true --lora_target_modules query value",
         lambda: adapted(target_modules=["query", "value"]), "not found in the base model"),
    Case("PF421", "trl --use_peft true --lora_target_modules q_proj",
         lambda: adapted(target_modules="q_proj"), "not found in the base model"),
    Case("PF421", "trl --use_peft true --lora_target_modules q_proj,v_proj",
         lambda: adapted(target_modules="q_proj,v_proj"), "not found in the base model"),
    Case("PF423", "trl --use_peft true --lora_target_modules all-linear",
         lambda: adapted("qwen3_moe", lab.EXPERTS, target_modules="all-linear", lora_dropout=0.05),
         "ParamWrapper does not work with lora_dropout != 0",
         {"model_type": "qwen3_moe", **lab.EXPERTS}),
    Case("PF423", "trl --use_peft true --lora_target_modules w1 w2 w3 --lora_dropout 0 --use_dora true",
         lambda: adapted("mixtral", lab.EXPERTS, target_modules=["w1", "w2", "w3"], use_dora=True),
         "ParamWrapper does not work with use_dora=True",
         {"model_type": "mixtral", **lab.EXPERTS}),
    Case("PF423", "trl --use_peft true --lora_target_modules q_proj up_proj --lora_dropout 0",
         lambda: adapted("olmoe", lab.EXPERTS, target_modules=["q_proj", "up_proj"]),
         "Cannot convert PEFT target\\(s\\) up_proj without also targeting gate_proj",
         {"model_type": "olmoe", **lab.EXPERTS}),
    Case("PF447", "trl --use_peft true --lora_target_modules q_proj v_proj",
         lambda: on_tower(["q_proj", "v_proj"]), "Target module Gemma4ClippableLinear", GEMMA4),
    Case("PF426", "trl --use_peft true --lora_target_modules q_proj lm_head",
         lambda: sft(LoraConfig(target_modules=["q_proj", "lm_head"])),
         "Applying a PEFT adapter to `lm_head` is not supported"),
    Case("PF428", "old_train.py --gradient_checkpointing true --use_lora true --lora_r 8",
         without_input_gradients, "element 0 of tensors does not require grad",
         changes={"versions": {"transformers": "4.49.0"}}),
    Case("PF432", "trl grpo --auto_find_batch_size true",
         lambda: arguments(GRPOConfig, auto_find_batch_size=True),
         "auto_find_batch_size is not supported by GRPO"),
    Case("PF434", "train.py --optim galore_adamw", lambda: low_rank("galore_adamw"),
         "You need to define `optim_target_modules`"),
    Case("PF434", "train.py --optim apollo_adamw_layerwise --optim_target_modules mlp --gradient_accumulation_steps 4",
         lambda: low_rank("apollo_adamw_layerwise", optim_target_modules=["mlp"], gradient_accumulation_steps=4),
         "does not support gradient accumulation"),
    # galore_torch's Adafactor is transformers' own with a projector
    Case("PF434", "train.py --optim galore_adafactor_layerwise --optim_target_modules all-linear",
         lambda: low_rank("galore_adafactor_layerwise", Adafactor, optim_target_modules="all-linear"),
         "Cannot combine manual `lr` and `relative_step=True`"),
    Case("PF435", "trl --optim adamw_8bits", lambda: arguments(optim="adamw_8bits"),
         "adamw_8bits is not a valid OptimizerNames"),
    Case("PF436", "train.py --load_best_model_at_end true",
         lambda: arguments(load_best_model_at_end=True),
         "requires the save and eval strategy to match"),
    Case("PF436", "train.py --load_best_model_at_end true --eval_strategy steps --eval_steps 100 --save_steps 250",
         lambda: arguments(load_best_model_at_end=True, eval_strategy="steps", eval_steps=100, save_steps=250),
         "round multiple of the evaluation steps"),
    Case("PF436", "train.py --lr_scheduler_type reduce_lr_on_plateau",
         lambda: arguments(lr_scheduler_type="reduce_lr_on_plateau"), "requires an eval strategy"),
    Case("PF437", "trl grpo --per_device_train_batch_size 2 --gradient_accumulation_steps 2 --num_generations 8",
         lambda: arguments(GRPOConfig, per_device_train_batch_size=2, gradient_accumulation_steps=2, num_generations=8),
         "must be divisible by num_generations"),
    Case("PF437", "trl grpo --num_generations 1", lambda: arguments(GRPOConfig, num_generations=1),
         "at least 2 generations per prompt"),
    Case("PF437", "trl grpo --generation_batch_size 8 --steps_per_generation 1",
         lambda: arguments(GRPOConfig, generation_batch_size=8, steps_per_generation=1),
         "can not be both configured"),
    Case("PF437", "trl grpo --generation_batch_size 12 --per_device_train_batch_size 8",
         lambda: arguments(GRPOConfig, generation_batch_size=12, per_device_train_batch_size=8),
         "must be divisible by the global batch size"),
    Case("PF439", "trl dpo --sync_ref_model true --use_peft true --lora_target_modules q_proj v_proj",
         lambda: dpo(LoraConfig(target_modules=list(QV)), sync_ref_model=True),
         "while using a PEFT model, which is currently not supported"),
    Case("PF439", "trl dpo --sync_ref_model true --precompute_ref_log_probs true",
         lambda: dpo(sync_ref_model=True, precompute_ref_log_probs=True),
         "together with `precompute_ref_log_probs=True`"),
    Case("PF439", "trl grpo --sync_ref_model true", lambda: grpo(sync_ref_model=True),
         "while `beta=0.0`"),
    Case("PF440", "trl --padding_free true", lambda: sft(padding_free=True),
         "`max_length` is not enforced"),
    Case("PF444", 'trl --gradient_checkpointing false --gradient_checkpointing_kwargs {"selective":true}',
         lambda: sft(gradient_checkpointing=False, gradient_checkpointing_kwargs={"selective": True}),
         "requires `gradient_checkpointing=True`"),
    Case("PF444", 'trl --gradient_checkpointing_kwargs {"selective":true,"use_reentrant":true}',
         lambda: sft(gradient_checkpointing_kwargs={"selective": True, "use_reentrant": True}),
         "requires non-reentrant gradient checkpointing"),
]  # fmt: skip
