"""Liger's kernels that a script puts in itself: a call that surely runs is `use_liger_kernel`, any other may take less."""

from __future__ import annotations

import pytest

from preflight.formulas.layers.kernels import LIGER_KERNELS
from preflight.launch import LaunchCommand
from preflight.pipeline import check_launch
from preflight.plugins import load_plugins
from preflight.request import Request
from preflight.scripts.settings.liger_calls import NOT_READ
from preflight.verdict import Answer

NOT_FUSED = "a loss that Liger does not fuse"
SCRIPT = """\
from liger_kernel.transformers import AutoLigerKernelForCausalLM, apply_liger_kernel_to_{type}
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

{before}
model = {cls}.from_pretrained("{model}", dtype="bfloat16")
{after}
tokenizer(rows, max_length=8192, truncation=True)
told = TrainingArguments("o", per_device_train_batch_size=4, bf16=True, gradient_checkpointing=True)
trainer = Trainer(model=model, args=told, train_dataset=rows)
trainer.train()
"""


@pytest.fixture
def checked(tmp_path):
    plugins = load_plugins()

    def check(before="", after="", type="qwen2", model="Qwen/Qwen2.5-7B", cls="AutoModelForCausalLM", text=SCRIPT):  # fmt: skip
        (tmp_path / "train.py").write_text(text.format(**{k: v for k, v in locals().items() if k != "text"}))  # fmt: skip
        command = LaunchCommand(("python", "train.py"), {}, str(tmp_path))
        return check_launch(command, plugins, Request("h100-sxm-80"))

    return check


@pytest.mark.parametrize(
    "given",
    [
        {"before": "apply_liger_kernel_to_qwen2()"},
        {"after": "apply_liger_kernel_to_qwen2(model=model)"},
        {"after": "_apply_liger_kernel_to_instance(model=model)"},
        {"cls": "AutoLigerKernelForCausalLM"},
    ],
)
def test_a_call_that_surely_runs_fuses_the_loss(checked, given):
    assert checked().verdict.answer is Answer.DOES_NOT_FIT
    found = checked(**given)
    assert found.plan.loss == "fused_linear"
    assert found.plan.kernels == LIGER_KERNELS
    assert found.verdict.answer is Answer.FITS


def test_its_switches_are_read(checked):
    call = "apply_liger_kernel_to_qwen2(rope=False, fused_linear_cross_entropy=False, cross_entropy={})"
    assert checked(before=call.format(True)).plan.loss == "fused_ce"
    plan = checked(before=call.format(False)).plan
    assert plan.loss == "full_logits"
    assert "liger_rope" not in plan.kernels


@pytest.mark.parametrize(
    "given",
    [
        {"before": "if asked():\n    apply_liger_kernel_to_qwen2()"},
        {"before": "apply_liger_kernel_to_qwen2(**switches())"},
        {"before": "apply_liger_kernel_to_qwen2()\napply_liger_kernel_to_llama()"},
        {"after": "apply_liger_kernel_to_qwen2()"},
    ],
    ids=["a branch", "switches", "two", "modules that are made"],
)
def test_what_may_be_put_in_refuses_nothing(checked, given):
    found = checked(**given)
    assert found.verdict.answer is Answer.UNKNOWN
    assert NOT_READ in found.verdict.unpriced


@pytest.mark.parametrize(
    ("type", "model", "is_named"),
    [
        ("qwen2", "meta-llama/Llama-3.1-8B", True),
        ("granite", "ibm-granite/granite-3.1-8b-base", True),
        ("llama", "meta-llama/Llama-3.1-8B", False),
    ],
)
def test_kernels_of_other_models_and_losses_that_it_leaves_whole_are_named(checked, type, model, is_named):  # fmt: skip
    found = checked(before=f"apply_liger_kernel_to_{type}()", type=type, model=model)
    assert (NOT_FUSED in {notice.unpriced for notice in found.plan.notices}) is is_named


def test_the_trainers_own_switch_leaves_the_same_losses_whole(checked):
    text = SCRIPT.replace('told = TrainingArguments("o"', 'told = TrainingArguments("o", use_liger_kernel=True')  # fmt: skip
    named = {
        model: NOT_FUSED in {n.unpriced for n in checked(model=model, text=text).plan.notices}
        for model in ("ibm-granite/granite-3.1-8b-base", "Qwen/Qwen2.5-7B")
    }
    assert named == {"ibm-granite/granite-3.1-8b-base": True, "Qwen/Qwen2.5-7B": False}


def test_a_loop_of_its_own_need_not_ask_the_model_for_its_loss(tmp_path):
    (tmp_path / "train.py").write_text(
        "from transformers import AutoModelForCausalLM\n"
        "apply_liger_kernel_to_qwen2()\n"
        "model = AutoModelForCausalLM.from_pretrained('Qwen/Qwen2.5-7B', dtype='bfloat16').cuda()\n"
        "optimizer = torch.optim.AdamW(model.parameters())\n"
        "for batch in DataLoader(rows, batch_size=1):\n"
        "    model(**batch).loss.backward()\n    optimizer.step()\n    optimizer.zero_grad()\n"
    )
    command = LaunchCommand(("python", "train.py"), {}, str(tmp_path))
    plan = load_plugins().first("preflight_read_launch", command=command)
    assert NOT_READ in {notice.unpriced for notice in plan.notices}
