"""axolotl trains preferences and rewards with TRL's classes: what it is read as, and priced as, is what TRL's own is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from preflight.judge import judge_plan
from preflight.launch import LaunchCommand
from preflight.launchers.axolotl import LAUNCHER
from preflight.launchers.axolotl.objective import UNPRICED
from preflight.plugins import load_plugins
from preflight.policy import Policy
from preflight.unpriced_names import SCATTERED, STRIDED

CONFIG = """\
base_model: Qwen/Qwen2.5-0.5B
datasets:
  - path: some/pairs
    type: chat_template.default
sequence_len: 2048
micro_batch_size: 2
gradient_accumulation_steps: 1
optimizer: adamw_torch_fused
learning_rate: 1e-5
bf16: true
flash_attention: true
gradient_checkpointing: true
"""
LORA = "adapter: lora\nlora_r: 16\nlora_alpha: 32\nlora_target_linear: true\n"
PINS = "axolotl==0.18.0\ntrl==1.8.0\ntransformers==5.14.1\ntorch==2.12.1\naccelerate==1.13.0\npeft==0.19.1\n"
PLUGINS = load_plugins()


def plan_of(tmp_path, more: str, kind: str = "chat_template.default"):
    (tmp_path / "config.yaml").write_text(CONFIG.replace("chat_template.default", kind) + more)
    (tmp_path / "requirements.txt").write_text(PINS)
    words = ("axolotl", "train", "config.yaml", "--num-processes", "1")
    plan = LAUNCHER.read(LaunchCommand(words, cwd=str(tmp_path)))
    assert plan is not None
    return replace(plan, device="h100-sxm-80")


@pytest.mark.parametrize("adapter", ["", LORA], ids=["full", "LoRA"])
@pytest.mark.parametrize(
    ("key", "objective"),
    [("rl: dpo", "dpo"), ("rl: ipo", "ipo"), ("rl: kto", "kto"), ("rl: orpo", "orpo"), ("rl: simpo", "simpo"),
     ("reward_model: true", "reward"), ("process_reward_model: true", "prm")],
)  # fmt: skip
def test_it_takes_what_trls_own_trainer_takes(tmp_path, key, objective, adapter):
    plan = plan_of(tmp_path, f"{key}\n{adapter}")
    of_trl = replace(plan, launcher="trl", trainer="trl")
    judged, wanted = (judge_plan(one, PLUGINS, Policy()) for one in (plan, of_trl))

    assert (plan.objective, plan.versions["trl"]) == (objective, "1.8.0")
    assert judged.verdict.unpriced == ()
    assert judged.estimate.peak.allocated_bytes == wanted.estimate.peak.allocated_bytes


def test_a_policy_without_an_adapter_is_loaded_twice_for_what_is_compared(tmp_path):
    references = [
        plan_of(tmp_path, f"rl: {rl}\n{adapter}").reference_model
        for rl, adapter in (("dpo", ""), ("dpo", LORA), ("orpo", ""), ("kto", ""))
    ]

    assert references == ["same", None, None, "same"]


@pytest.mark.parametrize(
    "more",
    [
        "rl: grpo\n",
        "rl: gdpo\n",
        "rl: ebft\n",
        "rl: dpo\ndpo_use_liger_kernel: true\n",
        "rl: dpo\ndpo_use_weighting: true\n",
        "rl: dpo\nprecompute_ref_log_probs: true\n",
        f"rl: dpo\nrl_adapter_ref_model: true\n{LORA}",
    ],
)
def test_what_no_formula_holds_makes_the_answer_unknown(tmp_path, more):
    assert UNPRICED in [notice.unpriced for notice in plan_of(tmp_path, more).notices]


@pytest.mark.parametrize(
    ("kind", "own", "named"),
    [
        ("ebft_strided_chat.transform", "", STRIDED),
        ("ebft_strided_chat.transform", "ebft_strided_chat.py", UNPRICED),
        ("mine.transform", "", UNPRICED),
    ],
)
def test_blocks_of_rows_that_axolotl_cuts_are_bounded(tmp_path, kind, own, named):
    """Other modules, one of the folder's own by the same name among them, make rows of any length."""
    if own:
        (tmp_path / own).write_text("")
    more = f"rl: ebft\nebft:\n  mode: strided\n  n_samples_per_prompt: 2\n{LORA}"
    plan = plan_of(tmp_path, more, kind)
    verdict = judge_plan(plan, PLUGINS, Policy()).verdict

    assert [notice.unpriced for notice in plan.notices if notice.unpriced] == [named]
    assert verdict.answer.value == ("fits" if named == STRIDED else "unknown")


SCATTERMOE = """\
plugins: [axolotl.integrations.kernels.KernelsPlugin]
use_scattermoe: true
adapter: qlora
load_in_4bit: true
quantize_moe_experts: true
lora_r: 8
lora_alpha: 16
lora_target_modules: [q_proj, v_proj]
lora_target_parameters: [mlp.experts.gate_up_proj, mlp.experts.down_proj]
"""


@pytest.mark.parametrize(
    ("said", "instead", "is_bounded"),
    [
        ("", "", True),
        ("use_scattermoe: true", "expert_backend: scattermoe", True),
        ("use_scattermoe: true", "use_sonicmoe: true", False),
        ("use_scattermoe: true", "use_scattermoe: true\nnonexpert_quantization: nf4", False),
        ("quantize_moe_experts: true", "", False),
        ("mlp.experts.down_proj", "mlp.gate.weight", False),
    ],
)
def test_scattermoe_over_packed_experts_is_bounded(tmp_path, said, instead, is_bounded):
    """Where its plugin does nothing else, and the adapter goes on no other parameters."""
    more = SCATTERMOE.replace(said, instead) if said else SCATTERMOE
    plan = replace(plan_of(tmp_path, more), model="Qwen/Qwen3-30B-A3B")
    named = {notice.unpriced for notice in plan.notices if notice.unpriced}
    verdict = judge_plan(plan, PLUGINS, Policy()).verdict

    assert (SCATTERED in named) == is_bounded
    assert any("KernelsPlugin" in name for name in named) != is_bounded
    assert verdict.answer.value == ("fits" if is_bounded else "unknown")


SERVED = "trl:\n  use_vllm: true\nvllm:\n  max_model_len: 4096\n"


@pytest.mark.parametrize(
    ("more", "seq_len"),
    [
        ("rl: grpo\n", None),
        ("rl: ebft\nebft:\n  ce_coef: 0.0\n", None),
        (f"rl: grpo\n{SERVED}", 4096),
        (f"rl: ebft\nebft:\n  mode: strided\n{SERVED}", 2048),
        ("rl: dpo\n", 2048),
    ],
)
def test_prompts_that_axolotl_does_not_cut_have_no_length(tmp_path, more, seq_len):
    """`sequence_len` is that of other data; a server refuses rows that it has no room for."""
    assert plan_of(tmp_path, more).seq_len == seq_len
