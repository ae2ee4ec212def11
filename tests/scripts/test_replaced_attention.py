"""A script that gives a model's attention class another forward leaves open which attention runs."""

from __future__ import annotations

import pytest

from preflight.launch import LaunchCommand
from preflight.pipeline import check_launch
from preflight.plugins import load_plugins
from preflight.request import Request
from preflight.scripts.read_signs import signs_of
from preflight.verdict import Answer

FORWARDS = """\
import torch


def with_kernel(self, hidden_states, attention_mask=None, **others):
    query, key, value = self.project(hidden_states)
    return self.o_proj({kernel}(query, key, value)), None, None


def with_scores(self, hidden_states, attention_mask=None, **others):
    query, key, value = self.project(hidden_states)
    scores = torch.softmax(query @ key.transpose(2, 3) + attention_mask, dim=-1)
    return self.o_proj(scores @ value), None, None


def replace(is_long=False):
    import transformers

    transformers.models.llama.modeling_llama.LlamaAttention.forward = {forward}
"""
TRAIN = """\
from patch import replace

{call}

from transformers import AutoModelForCausalLM, TrainingArguments
from trl import SFTTrainer

model = AutoModelForCausalLM.from_pretrained("meta-llama/Llama-2-7b-hf")
arguments = TrainingArguments(
    "out", per_device_train_batch_size=2, bf16=True, gradient_checkpointing=True,
    fsdp="full_shard auto_wrap", fsdp_transformer_layer_cls_to_wrap="LlamaDecoderLayer",
)
SFTTrainer(model, args=arguments, train_dataset=rows, packing=True, max_seq_length=16384).train()
"""
TARGET = "modeling_llama.LlamaAttention.forward"
KERNELS = ("flash_attn_func", "xops.memory_efficient_attention", "F.scaled_dot_product_attention")


def attention_of(folder, kernel=KERNELS[0], forward="with_kernel", call="replace()", target=TARGET):
    text = FORWARDS.format(kernel=kernel, forward=forward).replace(TARGET, target)
    (folder / "patch.py").write_text(text)
    (folder / "train.py").write_text(TRAIN.format(call=call))
    command = LaunchCommand(("torchrun", "train.py"), {}, str(folder))
    found = signs_of(command, "train.py").attention
    return None if found is None else set(found.may_be)


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_forward_with_a_kernel_keeps_no_scores(tmp_path, kernel):
    assert attention_of(tmp_path, kernel) == {"sdpa"}


@pytest.mark.parametrize(
    ("forward", "may_be"),
    [
        ("with_scores", {"eager"}),
        ("with_kernel if is_long else with_scores", {"sdpa", "eager"}),
        ("of_another_package", {"sdpa", "eager"}),
    ],
)
def test_a_forward_that_takes_a_softmax_or_is_not_here_may_keep_scores(tmp_path, forward, may_be):
    assert attention_of(tmp_path, forward=forward) == may_be


def test_a_class_put_into_its_models_module_counts_as_its_forward_does(tmp_path):
    swap = "import transformers.models.llama.modeling_llama as modeling_llama\n"
    swap += "class Fast:\n    forward = lambda self, q, k, v: flash_attn_func(q, k, v)\n"

    assert attention_of(tmp_path, call=f"{swap}modeling_llama.LlamaAttention = Fast") == {"sdpa"}


def test_a_function_that_nothing_calls_replaces_nothing(tmp_path):
    assert attention_of(tmp_path, call="print(replace.__name__) if False else None") is None


def answered(folder, pins, settings=None, **patch):
    (folder / "requirements.txt").write_text(pins)
    attention_of(folder, **patch)
    command = LaunchCommand(("torchrun", "--nproc_per_node", "8", "train.py"), {}, str(folder))
    return check_launch(command, load_plugins(), Request("h100-sxm-80", settings or {}))


OLD = "transformers==4.31.0\ntorch==2.0.1\n"
"""Releases whose LlamaAttention keeps scores, and whose repositories put flash attention in its place."""


def test_the_one_class_of_a_release_keeps_no_scores_where_its_forward_surely_keeps_none(tmp_path):
    report = answered(tmp_path, OLD)

    assert report.verdict.answer is Answer.FITS
    assert (report.plan.attention, report.plan.origins["attention"].may_be) == ("sdpa", ())
    assert report.plan.origins["attention"].where.startswith("patch.py:")


UNSURE = {
    "a condition": {"call": "import torch\nif torch.cuda.get_device_capability()[0] >= 8:\n    replace()"},
    "a class": {"target": "modeling_llama.LlamaAttention"},
    "another type's": {"target": "modeling_mistral.MistralAttention.forward"},
    "of another package": {"forward": "of_another_package"},
    "two": {"call": "from transformers.models.llama import modeling_llama\nreplace()\n"
            "modeling_llama.LlamaAttention.forward = of_another_package"},
}  # fmt: skip


@pytest.mark.parametrize("patch", UNSURE.values(), ids=UNSURE)
def test_the_scores_of_a_class_whose_forward_may_be_another_refuse_nothing(tmp_path, patch):
    report = answered(tmp_path, OLD, **patch)

    assert report.verdict.answer is Answer.UNKNOWN
    assert set(report.readings.deciding) == {"attention"}


def test_naming_the_attention_settles_it(tmp_path):
    patch = UNSURE["a class"]
    fits = answered(tmp_path, OLD, {"attention": "sdpa"}, **patch).verdict.answer
    refused = answered(tmp_path, OLD, {"attention": "eager"}, **patch).verdict.answer

    assert (fits, refused) == (Answer.FITS, Answer.DOES_NOT_FIT)


def test_a_forward_with_scores_is_refused_as_the_models_own_is(tmp_path):
    assert answered(tmp_path, OLD, forward="with_scores").verdict.answer is Answer.DOES_NOT_FIT


@pytest.mark.parametrize("name", ["Llama", "Qwen2", "Falcon", "Cohere", "Olmo"])
def test_eager_attention_runs_the_class_whose_forward_is_replaced(monkeypatch, name):
    """`LlamaAttention` is what eager attention takes in every release: the law that settles it rests on that."""
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    module = __import__(
        f"transformers.models.{name.lower()}.modeling_{name.lower()}", fromlist=["x"]
    )
    config = getattr(transformers, f"{name}Config")(
        vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=4, pad_token_id=0,
    )  # fmt: skip
    config._attn_implementation = "eager"
    model = getattr(module, f"{name}ForCausalLM")(config)
    calls = []
    kind = getattr(module, f"{name}Attention")
    forward = kind.forward
    monkeypatch.setattr(
        kind, "forward", lambda self, *a, **k: calls.append(1) or forward(self, *a, **k)
    )
    model(torch.ones(1, 4, dtype=torch.long))

    assert len(calls) == 2
