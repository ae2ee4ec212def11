"""What a check warns of happens in silence: each effect is measured in what the libraries compute or build."""

from __future__ import annotations

import inspect
import warnings

import pytest
import tiny_training as lab
import torch
from peft import LoraConfig, get_peft_model
from peft.utils import transformers_weight_conversion
from torch.utils.checkpoint import checkpoint
from transformers import Trainer, TrainingArguments
from transformers.integrations.flash_attention import get_target_dtype
from trl import DPOConfig, DPOTrainer, ModelConfig, SFTConfig, SFTTrainer, get_peft_config

from preflight.formulas.adapters.adapted_experts import ADAPTED_EXPERTS, LEFT_OUT
from preflight.models.families.mixture_of_experts import FAMILIES


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("model"))
    lab.tiny(attn_implementation="eager").save_pretrained(path)
    return path


def share_that_moved(dtype, rate, steps=5):
    """Return the share of weights of the usual size that AdamW changed, whose gradients keep their sign."""
    torch.manual_seed(0)
    weight = torch.nn.Parameter((torch.randn(4096) * 0.02).to(dtype))
    before = weight.detach().clone()
    optimizer = torch.optim.AdamW([weight], lr=rate, weight_decay=0.0)
    for _ in range(steps):
        weight.grad = torch.ones_like(weight)
        optimizer.step()
    return (weight != before).float().mean().item()


def test_small_steps_do_not_move_bf16_weights():
    """2e-5 and 1e-5 are the usual rates of full fine-tuning; 1e-3 would move nearly all."""
    assert share_that_moved(torch.bfloat16, 1e-5) < 0.25
    assert share_that_moved(torch.bfloat16, 2e-5) < 0.4
    assert share_that_moved(torch.float32, 1e-5) == 1.0
    assert share_that_moved(torch.bfloat16, 1e-3) > 0.95


def test_a_quantized_layer_computes_in_fp32_unless_told(folder):
    """The model is loaded in bf16, and its packed layers still multiply in fp32."""
    model = lab.quantized(folder, load_in_4bit=True)
    layer = model.model.layers[0].self_attn.q_proj
    told = lab.quantized(folder, load_in_4bit=True, bnb_4bit_compute_dtype=torch.bfloat16)

    assert model.lm_head.weight.dtype is torch.bfloat16
    assert (layer.compute_dtype, layer.weight.quant_type) == (torch.float32, "fp4")
    assert told.model.layers[0].self_attn.q_proj.compute_dtype is torch.bfloat16


def test_fp32_reaches_the_flash_kernel_without_mixed_precision():
    """transformers casts only what autocast or a half-precision model tells it to."""
    query, module = torch.randn(1, 2, 4, 16), lab.tiny().model.layers[0].self_attn
    half = lab.tiny().to(torch.bfloat16).model.layers[0].self_attn

    assert get_target_dtype(query, module) is torch.float32
    assert get_target_dtype(query.bfloat16(), half) is None
    with torch.autocast("cpu", torch.bfloat16):
        assert get_target_dtype(query, module) is torch.bfloat16


def test_packed_samples_mix_where_positions_do_not_start_again(tmp_path):
    """`wrapped` gives rows without boundaries; the other strategies give positions, and masks follow them."""

    def leak(attention, positions):
        model = lab.tiny(attn_implementation=attention).eval()
        one = torch.tensor([[3, 4, 5, 6, 7, 8]])
        other = one.clone()
        other[0, 1] = 9
        given = {"position_ids": torch.tensor([positions]), "use_cache": False}
        with torch.no_grad():
            moved = model(input_ids=one, **given).logits - model(input_ids=other, **given).logits
        return moved[0, 3:].abs().max().item()

    def batch(strategy):
        args = SFTConfig(
            output_dir=str(tmp_path),
            report_to=[],
            use_cpu=True,
            bf16=False,
            packing=True,
            packing_strategy=strategy,
            max_length=6,
        )
        data = {"train_dataset": lab.texts(), "processing_class": lab.tokenizer()}
        return next(iter(SFTTrainer(model=lab.tiny(), args=args, **data).get_train_dataloader()))

    for attention in ("eager", "sdpa"):
        assert leak(attention, [0, 1, 2, 0, 1, 2]) == 0
        assert leak(attention, [0, 1, 2, 3, 4, 5]) > 0.01
    assert "position_ids" not in batch("wrapped")
    assert (batch("bfd")["position_ids"] == 0).sum() == len(lab.texts())


def adapted_modules(model_type, targets, dropout=0.0, **changes):
    """Return the modules that PEFT puts adapters on, without layer numbers."""
    model = lab.tiny(model_type, **changes)
    config = LoraConfig(target_modules=targets, lora_dropout=dropout)
    names = [n for n, p in get_peft_model(model, config).named_parameters() if p.requires_grad]
    return {name.split(".lora_")[0].split(".layers.")[-1].partition(".")[2] for name in names}


def test_a_target_that_the_model_does_not_have_is_passed_over():
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        found = adapted_modules("llama", ["q_proj", "value"])

    assert found == {"self_attn.q_proj"}


@pytest.mark.parametrize("targets", ["all-linear", ["q_proj", "gate_proj", "up_proj", "down_proj"]])
@pytest.mark.parametrize("model_type", ["qwen3_moe", "olmoe", "qwen2_moe", "gpt_oss", "granitemoe"])
def test_experts_get_adapters_only_where_peft_converts_their_names(model_type, targets):
    found = adapted_modules(model_type, targets, **lab.EXPERTS)
    reached = any(".experts" in name for name in found)

    assert reached == (model_type in ADAPTED_EXPERTS)
    assert reached != (model_type in LEFT_OUT)
    assert "self_attn.q_proj" in found


def test_the_types_that_peft_converts_are_those_of_the_table():
    converted = transformers_weight_conversion._MODEL_TO_CONVERSION_PATTERN

    for model_type in {*FAMILIES, *ADAPTED_EXPERTS}:
        is_converted = converted.get(model_type) in ("mixtral", "qwen2_moe")
        assert is_converted == (model_type in ADAPTED_EXPERTS), model_type
        assert not (is_converted and model_type in LEFT_OUT)


def test_a_saved_module_of_a_tied_model_is_a_copy_of_its_own():
    """One step of training, and input and output embeddings differ."""
    model = lab.tiny(tie_word_embeddings=True)
    config = LoraConfig(target_modules=["q_proj"], modules_to_save=["lm_head"])
    with pytest.warns(UserWarning, match="tied layer is part of the adapter"):
        adapted = get_peft_model(model, config)
    saved = adapted.base_model.model.lm_head.modules_to_save["default"].weight
    embedding = adapted.get_input_embeddings().weight
    same = torch.equal(saved, embedding)
    optimizer = torch.optim.SGD([p for p in adapted.parameters() if p.requires_grad], lr=1.0)
    adapted(**lab.batch()).loss.backward()
    optimizer.step()

    assert same
    assert not torch.equal(saved, embedding)


def test_lora_flags_alone_make_no_adapter():
    assert get_peft_config(ModelConfig(lora_r=64)) is None
    assert get_peft_config(ModelConfig(lora_r=64, use_peft=True)) is not None


def test_kwargs_that_do_not_name_it_make_checkpointing_reentrant():
    """Without kwargs transformers names the kind; with them torch's own default decides."""
    model = lab.tiny()
    model.activation_checkpointing_enable()
    plain = model.model.layers[0]._gradient_checkpointing_func
    model.activation_checkpointing_enable({"preserve_rng_state": True})
    given = model.model.layers[0]._gradient_checkpointing_func
    weight = torch.randn(4, requires_grad=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        recomputed = checkpoint(torch.sin, weight)

    assert plain.keywords == {"use_reentrant": False}
    assert "use_reentrant" not in given.keywords
    assert inspect.signature(checkpoint).parameters["use_reentrant"].default is None
    assert type(recomputed.grad_fn).__name__ == "CheckpointFunctionBackward"


class OutOfMemory(torch.nn.Module):
    """A model that a batch of more than six does not fit."""

    def __init__(self):
        super().__init__()
        self.model, self.seen = lab.tiny(), []

    def forward(self, input_ids=None, labels=None):
        self.seen.append(len(input_ids))
        if len(input_ids) > 6:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return self.model(input_ids=input_ids, labels=labels)


def test_finding_a_batch_size_leaves_accumulation_as_it_is(tmp_path):
    """8, then 7, then 6 sequences a micro step, and two steps all the while: 12 instead of 16."""
    args = TrainingArguments(
        output_dir=str(tmp_path),
        report_to=[],
        use_cpu=True,
        auto_find_batch_size=True,
        per_device_train_batch_size=8,
        gradient_accumulation_steps=2,
        max_steps=1,
        save_strategy="no",
    )
    model = OutOfMemory()
    trainer = Trainer(model=model, args=args, train_dataset=lab.rows())
    trainer.train()

    assert model.seen == [8, 7, 6, 6]
    assert trainer.args.gradient_accumulation_steps == 2


def test_a_reference_model_is_a_second_copy_unless_there_is_an_adapter(tmp_path, folder):
    def reference(peft=None, **values):
        args = DPOConfig(output_dir=str(tmp_path), report_to=[], use_cpu=True, bf16=False, **values)
        return DPOTrainer(
            model=folder,
            args=args,
            train_dataset=lab.preferences(),
            processing_class=lab.tokenizer(),
            peft_config=peft,
        ).ref_model

    second = reference()

    assert sum(p.numel() for p in second.parameters()) == lab.tiny().num_parameters()
    assert reference(LoraConfig(target_modules=["q_proj"])) is None
    assert reference(precompute_ref_log_probs=True) is None


def test_label_smoothing_runs_the_model_twice(tmp_path):
    def forwards(smoothing):
        args = SFTConfig(
            output_dir=str(tmp_path),
            report_to=[],
            use_cpu=True,
            bf16=False,
            label_smoothing_factor=smoothing,
            max_steps=1,
            save_strategy="no",
        )
        model, seen = lab.tiny(), []
        data = {"train_dataset": lab.texts(), "processing_class": lab.tokenizer()}
        model.model.embed_tokens.register_forward_hook(lambda *_: seen.append(1))
        args.gradient_checkpointing = False
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            SFTTrainer(model=model, args=args, **data).train()
        return len(seen)

    assert forwards(0.0) == 1
    assert forwards(0.1) == 2
