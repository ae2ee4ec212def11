"""What a script makes counts where it reaches the call that takes it: a config of packing, an adapter's, a plugin."""

from __future__ import annotations

import pytest
from launch_of_script import opens, plan_of

SCRIPT = """\
import torch
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, Trainer, TrainingArguments

{before}
packing = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_compute_dtype=torch.bfloat16)
{after}
model = AutoModelForCausalLM.from_pretrained("Qwen/Qwen2.5-0.5B", {keywords}dtype=torch.bfloat16)
model = get_peft_model(model, LoraConfig(r=8, target_modules=["q_proj"]))
told = TrainingArguments(output_dir="o", per_device_train_batch_size=2, bf16=True)
Trainer(model=model, args=told, train_dataset=rows).train()
"""


@pytest.fixture
def packed(tmp_path):
    """Return whether the model of a script is packed; None where that is open."""

    def read(keywords="quantization_config=packing, ", before="", after=""):
        text = SCRIPT.format(keywords=keywords, before=before, after=after)
        plan = plan_of(tmp_path, "python train.py", {"train.py": text})
        return None if "base_quantization" in opens(plan) else plan.base_quantization is not None

    return read


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"before": "packing = None"},
        {"keywords": "quantization_config=packing if torch.cuda.is_available() else None, "},
        {"keywords": "**told, ", "after": "told = dict(quantization_config=packing)"},
    ],
)
def test_it_is_packed_where_it_is_loaded_with_one(packed, given):
    assert packed(**given) is True


@pytest.mark.parametrize(
    "given",
    [{"keywords": ""}, {"keywords": "quantization_config=None, "}, {"after": "packing = None"}],
    ids=["not given", "none", "none by then"],
)
def test_it_is_whole_where_it_is_loaded_without(packed, given):
    assert packed(**given) is False


@pytest.mark.parametrize(
    "given",
    [
        {"keywords": "quantization_config=packing if small() else None, "},
        {"after": "packing = None if small() else packing"},
        {"after": "if small():\n    packing = None"},
    ],
)
def test_it_is_open_where_only_running_tells(packed, given):
    assert packed(**given) is None


ADAPTED = """\
from peft import LoraConfig
from transformers import AutoModelForCausalLM
from trl import SFTConfig, SFTTrainer

model = AutoModelForCausalLM.from_pretrained("Qwen/Qwen2.5-0.5B")
adapter = LoraConfig(r=8, target_modules=["q_proj"])
{before}
told = SFTConfig(output_dir="o", per_device_train_batch_size=2, max_length=512)
SFTTrainer(model=model, args=told, train_dataset=rows{keywords}).train()
"""


@pytest.mark.parametrize(
    ("before", "keywords", "is_adapted"),
    [
        ("", ", peft_config=adapter", True),
        ("model = get_peft_model(model, adapter)", "", True),
        ("", "", False),
        ("", ", peft_config=None", False),
        ("adapter = None", ", peft_config=adapter", False),
        ("", ", peft_config=adapter if asked() else None", None),
        ("if asked():\n    adapter = None", ", peft_config=adapter", None),
    ],
)
def test_an_adapter_that_nobody_takes_adapts_nothing(tmp_path, before, keywords, is_adapted):
    text = ADAPTED.format(before=before, keywords=keywords)
    plan = plan_of(tmp_path, "python train.py", {"train.py": text})
    found = None if "adapter" in opens(plan) else plan.adapter is not None
    assert found is is_adapted


PLUGGED = """\
import torch
from accelerate import Accelerator, DeepSpeedPlugin, FullyShardedDataParallelPlugin
from transformers import AutoModelForCausalLM

model = AutoModelForCausalLM.from_pretrained("Qwen/Qwen2.5-0.5B")
plugin = {plugin}
accelerator = Accelerator({given})
optimizer = torch.optim.AdamW(model.parameters())
model, optimizer, loader = accelerator.prepare(model, optimizer, DataLoader(rows, batch_size=2))
for batch in loader:
    accelerator.backward(model(**batch).loss)
    optimizer.step()
    optimizer.zero_grad()
"""


@pytest.mark.parametrize(
    ("plugin", "keyword", "engine"),
    [
        ("FullyShardedDataParallelPlugin(fsdp_version=2)", "fsdp_plugin", "fsdp2"),
        ("DeepSpeedPlugin(zero_stage=3)", "deepspeed_plugin", "zero3"),
    ],
)
def test_a_plugin_that_no_accelerator_takes_is_no_engine(tmp_path, plugin, keyword, engine):
    plans = {
        given: plan_of(
            tmp_path,
            "torchrun --nproc_per_node 2 train.py",
            {"train.py": PLUGGED.format(plugin=plugin, given=given)},
        )
        for given in (
            "",
            f"{keyword}=plugin",
            f"{keyword}=None",
            f"{keyword}=plugin if asked() else None",
        )
    }
    taken, none, maybe = list(plans.values())[1:]
    assert taken.engine == engine
    assert plans[""].engine == none.engine == "ddp"
    assert "engine" in opens(maybe)
