"""What is applied unasked has a row in the table of proofs."""

from __future__ import annotations

from pathlib import Path

from preflight.builtin_hooks import BUILTIN_HOOKS
from preflight.remedy import UNPROVED

PAGE = Path(__file__).parents[2] / "docs" / "remedies-proof.md"
CHANGES_TRAINING = {
    "adafactor",
    "lora",
    "optimizer_8bit",
    "optimizer_states_16bit",
    "pure_bf16",
    "qlora",
    "seq_len",
}


def test_a_remedy_has_a_proof_or_is_applied_only_when_asked_for():
    table = PAGE.read_text().partition("## Not proved")[0]
    remedies = {n.removeprefix("remedy_") for n in BUILTIN_HOOKS if n.startswith("remedy_")}
    proved = {name for name in remedies if f"\n| {name} |" in table}

    assert remedies - proved - UNPROVED == CHANGES_TRAINING
    assert not proved & UNPROVED
