"""Rows whose questions and answers TRL cuts by themselves, before it cuts the row that they make."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))
from launch_of_script import plan_of

SCRIPT = """\
from transformers import AutoModelForCausalLM
from trl import KINDConfig, KINDTrainer

model = AutoModelForCausalLM.from_pretrained("Qwen/Qwen2.5-1.5B")
KINDTrainer(model=model, args=KINDConfig("out", SAYS), train_dataset=rows).train()
"""


BOTH = "max_length=32768, max_prompt_length=1024, max_completion_length=2048"
ANSWERS = "max_length=32768, max_completion_length=2048"


@pytest.mark.parametrize(
    ("kind", "release", "says", "length", "others"),
    [
        ("DPO", "0.13.0", BOTH, 3072, ()),
        ("DPO", "0.28.0", BOTH, 3072, ()),
        ("DPO", "0.11.4", BOTH, 32768, ()),
        ("PRM", "0.27.2", BOTH, 3072, ()),
        ("DPO", "0.14.0", ANSWERS, 2560, ()),
        ("PRM", "0.14.0", ANSWERS, 2560, ()),
        ("DPO", "0.13.0", ANSWERS, 32768, (1024,)),
        ("DPO", "0.14.0", f"{ANSWERS}, max_prompt_length=None", 32768, (1024,)),
        ("PRM", "0.13.0", BOTH, 32768, (1024,)),
        ("PRM", "0.28.0", ANSWERS, 32768, (1024,)),
        ("DPO", "0.14.0", "max_length=2048, max_prompt_length=1024, max_completion_length=2048", 2048, ()),
        ("DPO", "0.14.0", "max_prompt_length=128, max_completion_length=256", 384, ()),
        ("DPO", "0.28.0", "max_length=32768, max_completion_length=-1", 32768, ()),
        ("DPO", "0.14.0", "max_length=32768, max_prompt_length=1024", 32768, ()),
        ("KTO", "0.14.0", BOTH, 32768, ()),
        ("DPO", "0.13.0", "max_prompt_length=1024, max_completion_length=2048", 3072, ()),
        ("DPO", "0.14.0", "max_length=None, max_completion_length=2048", 2560, ()),
        ("DPO", "0.13.0", "max_completion_length=2048", None, ()),
        ("DPO", "0.14.0", "max_length=None", None, ()),
    ],
)  # fmt: skip
def test_a_row_is_no_longer_than_its_halves(tmp_path, kind, release, says, length, others):
    """A cap of 128,000 tokens over answers of 8,000 was refused for rows that no data has."""
    script = SCRIPT.replace("KIND", kind).replace("SAYS", says)
    files = {"train.py": script, "requirements.txt": f"trl=={release}\n"}
    plan = plan_of(tmp_path, "python train.py", files)

    assert plan.seq_len == length
    may_be = plan.origins["seq_len"].may_be if length else ()
    assert {*may_be} - {length} == {*others}
