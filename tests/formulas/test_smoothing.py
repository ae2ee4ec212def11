"""Smoothed labels beside the model's own loss, counted on transformers' own functions; a launch fits where the most of it does."""

from __future__ import annotations

import pytest

import preflight
from preflight.formulas.objectives.logits_at_most import SMOOTHED
from preflight.memory import Moment

TOKENS, WORDS = 256, 8192


@pytest.mark.libraries
@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize(("dtype", "is_cast"), [("bfloat16", False), ("bfloat16", True), ("float32", False)])  # fmt: skip
def test_smoothed_labels_take_no_more_than_is_bounded(dtype, is_cast, rows, monkeypatch):
    """`is_cast`: autocast reads a softmax in fp32, which the model's own loss does by itself."""
    import torch
    from allocations import Allocations
    from transformers.loss.loss_utils import ForCausalLMLoss
    from transformers.trainer_pt_utils import LabelSmoother

    plain = torch.nn.functional.log_softmax

    def peaks(smooths: bool) -> dict[str, int]:
        hidden = torch.randn(rows, TOKENS, 64, dtype=getattr(torch, dtype), requires_grad=True)
        head = torch.randn(WORDS, 64, dtype=hidden.dtype)
        labels = torch.randint(0, WORDS, (rows, TOKENS))
        with Allocations() as counted:
            counted.mark("forward")
            outputs = {"logits": hidden @ head.T}
            if smooths:
                loss = LabelSmoother(0.1)(outputs, labels.clone(), shift_labels=True)
            else:
                loss = ForCausalLMLoss(outputs["logits"], labels, WORDS)
            counted.mark("backward")
            loss.backward()
        return counted.peaks

    own = peaks(False)
    if is_cast:
        monkeypatch.setattr(
            torch.nn.functional, "log_softmax", lambda x, dim: plain(x.float(), dim=dim)
        )
    smoothed, entries = peaks(True), rows * TOKENS * WORDS

    assert smoothed["forward"] <= own["forward"] + SMOOTHED[Moment.LOSS_FORWARD] * entries
    assert smoothed["backward"] <= own["backward"] + SMOOTHED[Moment.LOSS_BACKWARD] * entries * 1.01


SCRIPT = """\
from transformers import AutoModelForCausalLM, HfArgumentParser, Trainer, TrainingArguments
args, = HfArgumentParser(TrainingArguments).parse_args_into_dataclasses()
model = AutoModelForCausalLM.from_pretrained("Qwen/Qwen2.5-7B", torch_dtype="bfloat16")
Trainer(model=model, args=args, train_dataset=rows).train()
"""
FLAGS = "--per_device_train_batch_size 8 --label_smoothing_factor 0.1 --gradient_checkpointing"


@pytest.mark.parametrize(
    ("start", "gib", "answer"),
    [
        ("python t.py --output_dir out", 400, "fits"),
        ("python t.py --output_dir out", 115, "unknown"),
        ("trl sft --model_name_or_path Qwen/Qwen2.5-7B --dataset_name a/b --output_dir out", 400, "unknown"),
    ],
)  # fmt: skip
def test_a_launch_with_smoothed_labels_fits_where_the_most_of_them_does(
    tmp_path, start, gib, answer
):
    """TRL runs its model twice for them, of which nobody has a bound."""
    (tmp_path / "t.py").write_text(SCRIPT)
    settings = {"seq_len": 4096, "world_size": 1}
    report = preflight.check(
        f"{start} {FLAGS}".split(), device=f"big:{gib}", cwd=str(tmp_path), settings=settings
    )

    assert report.verdict is not None
    assert report.verdict.answer.value == answer
