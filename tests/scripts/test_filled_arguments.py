"""A condition on an argument that nothing but what stands under it sets asks for what the command line says."""

from __future__ import annotations

import pytest
from launch_of_script import opens, plan_of

SCRIPT = """\
import argparse
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments
parser = argparse.ArgumentParser()
parser.add_argument("--rows", type=int, default=0)
parser.add_argument("--most", type=int, default=4)
args = parser.parse_args()

def main():
    model = AutoModelForCausalLM.from_pretrained("Qwen/Qwen2.5-0.5B")
{filled}
    told = TrainingArguments(output_dir="o", per_device_train_batch_size=args.rows)
    Trainer(model=model, args=told).train()

main()
"""
FILLED = "    if args.rows == 0:\n        args.rows = args.most"
CASES = {
    "where nobody gives it": (FILLED, "", 4),
    "where somebody gives it": (FILLED, "--rows 2", 2),
    "by what others say": (FILLED, "--most 8", 8),
    "not where another line sets it too": (FILLED + "\n    args.rows = find()", "--rows 2", None),
    "not where it is set twice": (FILLED + "\n        args.rows = find()", "", None),
    "where it is set twice under what is not taken": (
        FILLED + "\n        args.rows = find()",
        "--rows 2",
        2,
    ),
    "not in a loop that halves it": (
        "    while fails(args):\n        if args.rows > 1:\n            args.rows //= 2",
        "--rows 8",
        None,
    ),
}


@pytest.mark.parametrize("filled, flags, rows", CASES.values(), ids=CASES)
def test_an_argument_is_filled_in(filled, flags, rows, tmp_path):
    command = f"torchrun --nproc_per_node 1 train.py {flags}"
    plan = plan_of(tmp_path, command, {"train.py": SCRIPT.format(filled=filled)})
    said = None if "micro_batch_size" in opens(plan) else plan.micro_batch_size

    assert said == rows
