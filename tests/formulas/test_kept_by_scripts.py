"""What a script's own step keeps of its gradients or makes fp32 is bounded: by real steps, and a launch fits where the most of it does."""

from __future__ import annotations

import pytest

import preflight

WIDTH, DEPTH = 256, 4


def peak_of_steps(
    is_set_to_none: bool, is_head_wide: bool = False, is_all_wide: bool = False
) -> int:
    """Return the most bytes that two steps of a model in 16 bits have, without its weights as they were loaded."""
    import torch
    from allocations import Allocations

    class Rows(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            layers = [torch.nn.Linear(WIDTH, WIDTH) for _ in range(DEPTH)]
            self.layers = torch.nn.Sequential(*layers).bfloat16()
            self.lm_head = torch.nn.Linear(WIDTH, 16 * WIDTH).bfloat16()

        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            return self.lm_head(self.layers(rows)).float().logsumexp(-1).mean()

    with Allocations() as counted:
        model = Rows()
        if is_head_wide:
            model.lm_head.float()
        if is_all_wide:
            model.float()
        optimizer = torch.optim.AdamW(model.parameters())
        for _ in range(2):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = model(torch.randn(64, WIDTH))
            loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=is_set_to_none)
    return max(counted.peaks.values())


@pytest.mark.libraries
def test_gradients_that_stay_are_no_more_than_all_of_them():
    gradients = 2 * (DEPTH * WIDTH * (WIDTH + 1) + 16 * WIDTH * (WIDTH + 1))
    freed, kept = peak_of_steps(True), peak_of_steps(False)

    assert freed <= kept <= freed + gradients


@pytest.mark.libraries
def test_a_wide_part_takes_less_than_a_wide_model():
    assert peak_of_steps(True) < peak_of_steps(True, True) <= peak_of_steps(True, True, True)


SCRIPT = """\
from transformers import AutoModelForCausalLM, HfArgumentParser, Trainer, TrainingArguments
args, = HfArgumentParser(TrainingArguments).parse_args_into_dataclasses()
model = AutoModelForCausalLM.from_pretrained("Qwen/Qwen2.5-7B", torch_dtype="bfloat16")
{more}
Trainer(model=model, args=args, train_dataset=rows).train()
"""
FLAGS = "--output_dir out --per_device_train_batch_size 1 --bf16"


@pytest.mark.parametrize("more", ["model.lm_head.float()", "adam.zero_grad(set_to_none=False)"])
@pytest.mark.parametrize(("gib", "answer"), [(400, "fits"), (72, "unknown")])
def test_a_launch_fits_where_the_most_of_it_does(tmp_path, more, gib, answer):
    (tmp_path / "t.py").write_text(SCRIPT.format(more=more))
    report = preflight.check(
        f"python t.py {FLAGS}".split(),
        device=f"big:{gib}",
        cwd=str(tmp_path),
        settings={"seq_len": 1024, "world_size": 1},
    )

    assert report.verdict is not None and report.verdict.answer.value == answer
