"""What is fp32 of a quantized base: PEFT's preparation by the script's own call or by TRL's trainer, as their code does it."""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from pathlib import Path

import pytest

from preflight.trainers.prepared_base import prepared_by_trl
from preflight.versions.trl_preparation import CASTS, CASTS_ADAPTERS, PREPARES

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))
from launch_of_script import opens, plan_of

CLASSES = {
    "sft": "SFTTrainer", "dpo": "DPOTrainer", "kto": "KTOTrainer", "reward": "RewardTrainer", "grpo": "GRPOTrainer",
    "rloo": "RLOOTrainer", "orpo": "ORPOTrainer", "cpo": "CPOTrainer", "online_dpo": "OnlineDPOTrainer",
}  # fmt: skip
SCRIPT = """\
import torch
from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, Trainer, TrainingArguments
{imported}
model = AutoModelForCausalLM.from_pretrained("meta-llama/Llama-2-7b-hf", torch_dtype=torch.bfloat16{load})
{prepared}
args = TrainingArguments(output_dir="o", per_device_train_batch_size=1{args})
{trainer}.train()
"""
PLAIN = "Trainer(model=get_peft_model(model, LoraConfig(r=8, target_modules=['q_proj'])), args=args, train_dataset=rows)"
HANDED = "SFTTrainer(model, args=args, train_dataset=rows, peft_config=LoraConfig(r=8), max_seq_length=512)"
IN_4_BITS = ", quantization_config=BitsAndBytesConfig(load_in_4bit=True)"
IN_8_BITS = ", load_in_8bit=True"


def read(folder, version="1.16.0", **parts):
    said = {
        "imported": "",
        "load": IN_4_BITS,
        "prepared": "",
        "args": "",
        "trainer": PLAIN,
        **parts,
    }
    if "SFTTrainer" in said["trainer"]:
        said["imported"] = "from trl import SFTTrainer"
    files = {"train.py": SCRIPT.format(**said), "requirements.txt": f"trl=={version}\n"}
    return plan_of(folder, "torchrun train.py", files)


@pytest.mark.parametrize("method", CLASSES)
def test_the_installed_trl_does_what_the_tables_say_of_its_release(method):
    trl = importlib.import_module("trl")
    modules = [trl]
    for name in (method, "orpo", "cpo", "online_dpo"):
        try:
            modules.append(importlib.import_module(f"trl.experimental.{name}"))
        except ImportError:
            continue
    cls = next(getattr(m, CLASSES[method]) for m in modules if hasattr(m, CLASSES[method]))
    text = inspect.getsource(inspect.getmodule(cls))
    calls_both = re.search(r"(?<!_)prepare_peft_model\(model", text) is not None
    versions = {"trl": trl.__version__}
    prepares = "prepare_model_for_kbit_training(model" in text or calls_both
    casts = "peft_module_casting_to_bf16(model)" in text or calls_both
    narrows = "param.data = param.data.to(torch.bfloat16)" in text
    for table, does in ((PREPARES, prepares), (CASTS, casts), (CASTS_ADAPTERS, narrows)):
        assert (method in table and table[method].holds_in(versions)) == does


@pytest.mark.parametrize(
    ("method", "version", "under_bf16", "upcast", "adapter"),
    [
        ("sft", "0.7.1", True, "all", None),
        ("sft", "0.7.11", True, "norms", "bf16"),
        ("sft", "0.7.11", False, "all", None),
        ("sft", "0.12.2", True, "norms", None),
        ("sft", "0.25.1", True, "norms", None),
        ("sft", "0.26.0", True, "none", "bf16"),
        ("reward", "0.21.0", True, "all", None),
        ("reward", "0.22.2", True, "norms", None),
        ("grpo", "0.21.0", True, "none", None),
        ("grpo", "0.23.0", True, "norms", None),
        ("dpo", "0.28.0", False, "all", None),
        ("dpo", "0.29.0", False, "none", "bf16"),
        ("orpo", "1.16.0", True, "norms", None),
        ("distillation", "1.16.0", True, "none", None),
        ("gkd", "0.12.2", True, "norms", None),
        ("gkd", "1.16.0", True, "none", "bf16"),
    ],
)
def test_by_release(method, version, under_bf16, upcast, adapter):
    assert prepared_by_trl(method, {"trl": version}, "none", under_bf16) == (upcast, adapter)


@pytest.mark.parametrize(
    ("version", "parts", "upcast"),
    [
        ("1.16.0", {}, "none"),
        ("1.16.0", {"prepared": "model = prepare_model_for_kbit_training(model)"}, "all"),
        (
            "1.16.0",
            {"prepared": "model = prepare_model_for_kbit_training(model)", "load": IN_8_BITS},
            "all",
        ),
        ("0.12.2", {"trainer": HANDED, "args": ", bf16=True"}, "norms"),
        ("0.12.2", {"trainer": HANDED, "args": ", fp16=True"}, "all"),
        ("0.12.2", {"trainer": HANDED, "args": ", bf16=True", "load": IN_8_BITS}, "all"),
        ("0.12.2", {"trainer": HANDED.replace(", peft_config=LoraConfig(r=8)", "")}, "none"),
        ("1.16.0", {"trainer": HANDED, "args": ", bf16=True"}, "none"),
        (
            "1.16.0",
            {"trainer": HANDED, "prepared": "model = prepare_model_for_kbit_training(model)"},
            "all",
        ),
    ],
)
def test_what_a_script_and_its_trainer_make_of_the_base(tmp_path, version, parts, upcast):
    base = read(tmp_path, version, **parts).base_quantization
    assert base is not None and base.upcast_unquantized_to_fp32 == upcast


PUT_ON = """\
config = LoraConfig(r=8)
model = prepare_model_for_kbit_training(model)
{put}"""
TOLD = HANDED.replace("LoraConfig(r=8)", "config")


@pytest.mark.parametrize(
    ("version", "put", "upcast", "adapter"),
    [
        ("0.8.6", "model = get_peft_model(model, config)", "all", None),
        ("0.19.1", "model = get_peft_model(model, config)", "all", None),
        ("0.8.6", "other = get_peft_model(model, config)", "norms", "bf16"),
        ("0.22.2", "model = get_peft_model(model, config)", "norms", None),
    ],
)
def test_a_model_that_has_an_adapter_is_left_as_it_is(tmp_path, version, put, upcast, adapter):
    parts = {"prepared": PUT_ON.format(put=put), "trainer": TOLD, "args": ", bf16=True"}
    plan = read(tmp_path, version, **parts)
    assert plan.base_quantization.upcast_unquantized_to_fp32 == upcast
    assert plan.adapter.dtype == adapter


def test_an_adapter_that_may_be_on_leaves_open_what_is_done_to_the_base(tmp_path):
    put = "if ready():\n    model = get_peft_model(model, config)"
    parts = {"prepared": PUT_ON.format(put=put), "trainer": TOLD, "args": ", bf16=True"}
    plan = read(tmp_path, "0.8.6", **parts)
    base, (other,) = plan.base_quantization, plan.origins["base_quantization"].may_be
    assert {base.upcast_unquantized_to_fp32, other.upcast_unquantized_to_fp32} == {"norms", "all"}


def test_a_preparation_that_may_not_run_is_open(tmp_path):
    prepared = "if ready():\n    model = prepare_model_for_kbit_training(model)"
    plan = read(tmp_path, prepared=prepared)
    assert "base_quantization" in opens(plan)
    (other,) = plan.origins["base_quantization"].may_be
    assert {
        plan.base_quantization.upcast_unquantized_to_fp32,
        other.upcast_unquantized_to_fp32,
    } == {"none", "all"}


def test_pefts_preparation_makes_a_model_in_16_bits_fp32(tmp_path):
    import torch
    from peft import prepare_model_for_kbit_training
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    model = LlamaForCausalLM(LlamaConfig(vocab_size=32, **sizes)).to(torch.bfloat16)
    prepare_model_for_kbit_training(model)
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}

    prepared = "model = prepare_model_for_kbit_training(model)"
    assert read(tmp_path, load="", prepared=prepared).load_dtype == "fp32"
