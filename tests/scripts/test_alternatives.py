"""An attention or a dtype that is one of several, whichever a script takes when it runs, is open between these and no other."""

from __future__ import annotations

import pytest

from preflight.launch import LaunchCommand
from preflight.pipeline import check_launch
from preflight.plugins import load_plugins
from preflight.request import Request

SCRIPT = """\
import torch
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments
from transformers.utils import is_flash_attn_2_available

import choices
{before}
model = AutoModelForCausalLM.from_pretrained("gpt2", attn_implementation={attention})
Trainer(model, TrainingArguments("out", per_device_train_batch_size=1)).train()
"""
CHOICES = """\
from kinds import Kind

WORDS = {Kind.FOURTH: "flash_attention_4", Kind.SECOND: "flash_attention_2", Kind.NONE: "sdpa"}
MORE = {Kind.SECOND: "flash_attention_2"}
MORE[Kind.NONE] = "eager"


def pick():
    if torch.cuda.get_device_capability()[0] >= 8:
        return "flash_attention_2"
    elif torch.cuda.device_count() > 0:
        return "sdpa"
    else:
        raise RuntimeError("no GPU")


def perhaps():
    if torch.cuda.is_bf16_supported():
        return "flash_attention_2"


def named():
    return word_of(Kind.of(torch.cuda.current_device()))


def word_of(kind):
    return WORDS[kind]


def changed(kind):
    return MORE[kind]
"""
FUSED = ("flash_attention_2", "sdpa")
KNOWN = {
    "a condition": ("", '"flash_attention_2" if is_flash_attn_2_available() else "sdpa"', FUSED),
    "branches": (
        'attention = "sdpa"\nif torch.cuda.get_device_capability()[0] >= 8:\n    attention = "flash_attention_2"',
        "attention",
        ("sdpa", "flash_attention_2"),
    ),
    "one is eager": (
        'if torch.cuda.get_device_capability()[0] >= 8:\n    attention = "sdpa"\nelse:\n    attention = "eager"',
        "attention",
        ("sdpa", "eager"),
    ),
    "a function": ("", "choices.pick()", FUSED),
    "a table": ("", "choices.named()", FUSED),
    "none": ("", '"sdpa" if is_flash_attn_2_available() else None', ("sdpa", None)),
}
ANY = {
    "a table that changes": "choices.changed(torch.cuda.current_device())",
    "a function that may end without a return": "choices.perhaps()",
    "a function from elsewhere": "is_flash_attn_2_available()",
    "a word that nobody knows": '"sdpa" if is_flash_attn_2_available() else "my_kernel"',
    "one way that is not read": '"sdpa" if is_flash_attn_2_available() else choices.other()',
}


def attention(folder, before, expression):
    (folder / "choices.py").write_text(CHOICES)
    (folder / "train.py").write_text(SCRIPT.format(before=before, attention=expression))
    command = LaunchCommand(("python", "train.py"), {}, str(folder))
    return check_launch(command, load_plugins(), Request("h100-sxm-80")).plan.origins["attention"]


@pytest.mark.parametrize("told", KNOWN.values(), ids=KNOWN)
def test_it_is_one_of_these(told, tmp_path):
    before, expression, ways = told

    assert attention(tmp_path, before, expression).may_be == ways


@pytest.mark.parametrize("expression", ANY.values(), ids=ANY)
def test_what_may_be_another_may_be_any(expression, tmp_path):
    assert attention(tmp_path, "", expression).may_be == (None, "sdpa", "eager")


@pytest.mark.parametrize(
    "told",
    [
        ("torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16", ("bf16", "fp16")),
        ("torch.bfloat16 if torch.cuda.is_bf16_supported() else 'float32'", ("bf16", "fp32")),
        ("torch.bfloat16 if torch.cuda.is_bf16_supported() else None", (None, "bf16", "fp32")),
    ],
)
def test_a_dtype_is_one_of_these(told, tmp_path):
    expression, ways = told
    text = SCRIPT.replace("attn_implementation={attention}", "torch_dtype=" + expression)
    (tmp_path / "train.py").write_text(text.format(before=""))
    command = LaunchCommand(("python", "train.py"), {}, str(tmp_path))
    report = check_launch(command, load_plugins(), Request("h100-sxm-80"))

    assert report.plan.origins["load_dtype"].may_be == ways
    assert report.plan.load_dtype in ways


PACKED = """\
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, Trainer, TrainingArguments

packing = BitsAndBytesConfig(load_in_4bit=True{compute})
model = AutoModelForCausalLM.from_pretrained(
    "gpt2", quantization_config=packing, torch_dtype=unknown()
)
model = get_peft_model(model, LoraConfig(r=8))
Trainer(model, TrainingArguments("out", per_device_train_batch_size=1, fp16=True)).train()
"""


@pytest.mark.parametrize(
    ("compute", "taken"),
    [
        ("torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16", "bf16"),
        ("torch.float16 if unknown() else torch.bfloat16", "fp16"),
        ("torch.bfloat16 if unknown() else torch.float32", None),
        ("unknown()", None),
        ("torch.float32", "fp32"),
        ("", "fp32"),
    ],
)
def test_packed_layers_compute_in_fp32_only_where_somebody_says_so(compute, taken, tmp_path):
    said = f", bnb_4bit_compute_dtype={compute}" if compute else ""
    (tmp_path / "train.py").write_text(PACKED.format(compute=said))
    command = LaunchCommand(("python", "train.py"), {}, str(tmp_path))
    report = check_launch(command, load_plugins(), Request("h100-sxm-80"))

    assert report.plan.base_quantization.compute_dtype == taken
    assert ("PF409" in {each.id for each in report.findings}) == (taken == "fp32")


def test_several_loads_are_one_of_what_each_may_have(tmp_path):
    text = SCRIPT.replace(
        "model = Auto",
        "if torch.cuda.device_count() > 1:\n"
        '    model = AutoModelForCausalLM.from_pretrained("gpt2", attn_implementation="flash_attention_2")\n'
        "else:\n    model = Auto",
    )
    (tmp_path / "choices.py").write_text(CHOICES)
    (tmp_path / "train.py").write_text(text.format(before="", attention="choices.named()"))
    command = LaunchCommand(("python", "train.py"), {}, str(tmp_path))
    report = check_launch(command, load_plugins(), Request("h100-sxm-80"))

    assert set(report.plan.origins["attention"].may_be) == {"flash_attention_2", "sdpa"}


def test_loads_of_branches_that_agree_say_what_the_model_has(tmp_path):
    loads = 'AutoModelForCausalLM.from_pretrained("gpt2", attn_implementation={attention})'
    text = SCRIPT.replace(
        "model = " + loads,
        f"if torch.cuda.device_count() > 1:\n    model = {loads}\nelse:\n    model = {loads}",
    )
    (tmp_path / "train.py").write_text(text.format(before="", attention='"eager"'))
    command = LaunchCommand(("python", "train.py"), {}, str(tmp_path))
    report = check_launch(command, load_plugins(), Request("h100-sxm-80"))

    assert report.plan.attention == "eager" and not report.plan.origins["attention"].may_be


ADAPTED = """\
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

import sites

TARGETS = {{"llama": ["q_proj", "v_proj"], "gpt2": ["c_attn"], "mpt": ("Wqkv", "q_proj")}}
model = AutoModelForCausalLM.from_pretrained("meta-llama/Llama-3.1-8B")
{before}
model = get_peft_model(model, LoraConfig(r=8, target_modules={targets}))
Trainer(model, TrainingArguments("out", per_device_train_batch_size=1)).train()
"""
QUERY, BOTH = ("q_proj",), ("q_proj", "v_proj")
LISTS = {
    "two that the model has": ("", '["q_proj", "v_proj"] if sites.wide() else ["q_proj"]', [BOTH, QUERY]),
    "branches": (
        'names = ["q_proj"]\nif sites.wide():\n    names = ["q_proj", "v_proj"]',
        "names",
        [QUERY, BOTH],
    ),
    "one of another model": (
        "",
        '["c_attn", "c_proj"] if model.config.architectures == ["GPT2LMHeadModel"] else ["q_proj"]',
        [QUERY],
    ),
    "a table by model": ("", "TARGETS[model.config.model_type]", [BOTH, ("Wqkv", "q_proj")]),
    "an embedding": ("", '["embed_tokens"] if sites.wide() else ["q_proj"]', [("embed_tokens",), QUERY]),
    "a part of the names": ("", '["q_proj"] if sites.wide() else ["c_attn", "mlp.up_proj"]', [QUERY, ("c_attn", "mlp.up_proj")]),
    "neither of this model": ("", '["c_attn"] if sites.wide() else ["Wqkv"]', [("c_attn",), ("Wqkv",)]),
    "one way that is not read": ("", '["q_proj"] if sites.wide() else sites.names()', [None, "all-linear"]),
    "none at all in one": ("", '["q_proj"] if sites.wide() else None', [None, "all-linear"]),
    "a list that grows": (
        'names = ["q_proj"] if sites.wide() else ["v_proj"]\nnames.append(sites.one())',
        "names",
        [None, "all-linear"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("told", LISTS.values(), ids=LISTS)
def test_an_adapter_goes_on_one_of_these_lists_where_the_model_has_modules_of_it(told, tmp_path):
    before, targets, ways = told
    (tmp_path / "train.py").write_text(ADAPTED.format(before=before, targets=targets))
    command = LaunchCommand(("python", "train.py"), {}, str(tmp_path))
    plan = check_launch(command, load_plugins(), Request("h100-sxm-80")).plan
    found = [each.targets for each in (plan.adapter, *plan.origins["adapter"].may_be)]

    assert found == ways
    assert plan.origins["adapter"].assumed == (len(ways) > 1)


def test_lists_among_arguments_that_are_handed_on_together_may_be_any(tmp_path):
    text = ADAPTED.replace(
        "r=8, target_modules={targets}", '**{{"r": 8, "target_modules": {targets}}}'
    )
    targets = '["q_proj"] if sites.wide() else ["v_proj"]'
    (tmp_path / "train.py").write_text(text.format(before="", targets=targets))
    command = LaunchCommand(("python", "train.py"), {}, str(tmp_path))
    plan = check_launch(command, load_plugins(), Request("h100-sxm-80")).plan
    found = [each.targets for each in (plan.adapter, *plan.origins["adapter"].may_be)]

    assert found == [None, "all-linear"]


def test_a_model_that_may_have_other_modules_may_have_those_of_a_list_that_names_none(tmp_path):
    text = ADAPTED.replace(
        "meta-llama/Llama-3.1-8B", "gpt2"
    )  # read with the shapes of one of its kind
    targets = '["q_a_proj", "kv_b_proj"] if model.config.architectures == ["Other"] else ["c_attn"]'
    (tmp_path / "train.py").write_text(text.format(before="", targets=targets))
    command = LaunchCommand(("python", "train.py"), {}, str(tmp_path))
    plan = check_launch(command, load_plugins(), Request("h100-sxm-80")).plan
    ways = (plan.adapter, *plan.origins["adapter"].may_be)

    assert [each.targets for each in ways] == [("c_attn",), "all-linear"]


@pytest.mark.parametrize(
    "model", ["Qwen/Qwen2.5-VL-7B-Instruct", "HuggingFaceTB/SmolVLM2-2.2B-Instruct"]
)
def test_modules_of_a_tower_are_not_listed_and_may_be_there(model, tmp_path):
    text = ADAPTED.replace("meta-llama/Llama-3.1-8B", model)
    text = text.replace("AutoModelForCausalLM", "AutoModelForImageTextToText")
    targets = '["qkv_of_tower"] if sites.wide() else ["q_proj"]'
    (tmp_path / "train.py").write_text(text.format(before="", targets=targets))
    command = LaunchCommand(("python", "train.py"), {}, str(tmp_path))
    plan = check_launch(command, load_plugins(), Request("h100-sxm-80")).plan
    ways = (plan.adapter, *plan.origins["adapter"].may_be)

    assert [each.targets for each in ways] == [("qkv_of_tower",), QUERY]


ROWS = """\
import socket
import torch
from torch.utils.data import DataLoader
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

is_large = socket.gethostname() == "large"
rows = 4
if is_large:
    rows = 16
model = AutoModelForCausalLM.from_pretrained("gpt2")
"""
TRAINS = "Trainer(model, arguments).train()\n"
LOOP = """\
optimizer = torch.optim.AdamW(model.parameters())
for batch in loader:
    model(**batch).loss.backward()
    optimizer.step()
    optimizer.zero_grad()
"""
OF_TWO = {
    "a condition": f"arguments = TrainingArguments('o', per_device_train_batch_size=16 if is_large else 4)\n{TRAINS}",
    "a name": f"arguments = TrainingArguments('o', per_device_train_batch_size=rows)\n{TRAINS}",
    "one call or another": (
        "if is_large:\n    arguments = TrainingArguments('o', per_device_train_batch_size=16)\n"
        f"else:\n    arguments = TrainingArguments('o', per_device_train_batch_size=4)\n{TRAINS}"
    ),
    "a loader": f"loader = DataLoader(load(), batch_size=16 if is_large else 4)\n{LOOP}",
    "a loader by position": f"loader = DataLoader(load(), rows)\n{LOOP}",
}
OF_MORE = {
    "one way that is not read": "TrainingArguments('o', per_device_train_batch_size=16 if is_large else count())",
    "no number of rows": "TrainingArguments('o', per_device_train_batch_size=16 if is_large else 0)",
    "set anew": (
        "TrainingArguments('o', per_device_train_batch_size=rows)\n"
        "arguments.per_device_train_batch_size = count()"
    ),
    "replaced": (
        "TrainingArguments('o', per_device_train_batch_size=rows)\n"
        "arguments = dataclasses.replace(arguments, per_device_train_batch_size=count())"
    ),
}


def rows(folder, script):
    (folder / "train.py").write_text(ROWS + script)
    command = LaunchCommand(("python", "train.py"), {}, str(folder))
    return check_launch(
        command, load_plugins(), Request("h100-sxm-80", settings={"seq_len": 64})
    ).plan


@pytest.mark.parametrize("script", OF_TWO.values(), ids=OF_TWO)
def test_rows_of_which_a_script_chooses_are_open_between_the_least_and_the_most(script, tmp_path):
    plan = rows(tmp_path, script)
    origin = plan.origins["micro_batch_size"]

    assert plan.micro_batch_size == 16
    assert origin.assumed and set(origin.may_be) == {16, 4}


@pytest.mark.parametrize("script", OF_MORE.values(), ids=OF_MORE)
def test_rows_that_may_be_any_are_unknown(script, tmp_path):
    plan = rows(tmp_path, f"arguments = {script}\n{TRAINS}")

    assert plan.micro_batch_size is None
